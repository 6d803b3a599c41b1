/**
 * What a route of the REST API is. Its declaration is plain data: the OpenAPI document is made of it, and `plugin.ts`
 * checks by it whatever comes in and goes out. The handler gets only what was checked.
 */
import * as z from 'zod';
import type { Digest, RepositoryName } from '../oci/names.ts';
import type { Action, Call } from '../registry/call.ts';
import type { ApiCode } from './problem.ts';

/** Where every route lies. */
export const API_PREFIX = '/api/v1';

/**
 * Who may call a route. `repository`: whoever has the right at the repository that the path parameter `name` names;
 * `found`: at the one that `repositoryOf` of the route finds; `registry`: at the registry itself. It is asked before
 * query and body are looked at.
 */
export type Right =
  | { readonly on: 'anyone' }
  | { readonly on: 'registry'; readonly action: Action }
  | { readonly on: 'repository'; readonly action: Action }
  | { readonly on: 'found'; readonly action: Action };

/** A method of the API. GET is served to HEAD too. */
export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

type NoFields = z.ZodObject<Record<never, never>>;

/** A route, declared. Objects are strict: a field that is not declared is refused. */
export interface Declaration<
  Params extends z.ZodObject = z.ZodObject,
  Query extends z.ZodObject = z.ZodObject,
  Body extends z.ZodType = z.ZodType,
  Answer extends z.ZodType = z.ZodType,
  Position extends z.ZodType = z.ZodType,
> {
  /** Unique, camelCase: the name of generated clients' methods, and what cursors are bound to. */
  readonly operation: string;
  readonly method: Method;
  /** Below `API_PREFIX`, as in `/repositories/{name}/tags`. A parameter is one percent-encoded segment. */
  readonly path: string;
  /** The heading it stands under in the documentation. */
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  readonly right: Right;
  readonly params?: Params;
  readonly query?: Query;
  readonly body?: Body;
  /** Whether the body may be left out; then it is parsed as an empty object. */
  readonly bodyOptional?: true;
  /** Most bytes of the body; 64 KiB where absent. */
  readonly bodyBytes?: number;
  /** The answer is a page: `answer` is one item, this where a page ends. Adds `limit` and `after` to the query. */
  readonly position?: Position;
  /** Whether `If-Match: "DIGEST"` and `If-None-Match: *` say where a tag is expected to be. */
  readonly conditions?: true;
  /** 200 where absent. */
  readonly status?: 200 | 201 | 204;
  readonly answer?: Answer;
  /** Refusals besides those that every route may give. */
  readonly refusals?: readonly ApiCode[];
}

/** A request, checked. */
export interface Asked<
  Params extends z.ZodType,
  Query extends z.ZodType,
  Body extends z.ZodType,
  Position extends z.ZodType,
> {
  readonly call: Call;
  readonly params: z.output<Params>;
  readonly query: z.output<Query>;
  readonly body: z.output<Body>;
  /** Of a route with pages: how many items, and after which position. */
  readonly page: { readonly limit: number; readonly after?: z.output<Position> };
  /** Where the client expects the tag: a digest, null for nowhere; absent: it did not say. */
  readonly expect?: Digest | null;
}

/** What a handler gives: the answer, or a page of it. */
export type Given<Answer extends z.ZodType, Position extends z.ZodType> = [Position] extends [z.ZodNever]
  ? z.input<Answer>
  : { readonly items: readonly z.input<Answer>[]; readonly next?: z.input<Position> | undefined };

/** A route that is served. */
export interface ApiRoute {
  readonly declaration: Declaration;
  // biome-ignore lint/suspicious/noExplicitAny: a list of routes of many schemas; each handler is typed where it is made.
  handle(asked: any): Promise<unknown>;
  /** For `right.on: 'found'`. Undefined: there is no such thing, which is answered like one that may not be seen. */
  repositoryOf?(params: Readonly<Record<string, string>>): Promise<RepositoryName | undefined>;
}

/** A declaration of whichever schemas, for lists. */
// biome-ignore lint/suspicious/noExplicitAny: of no use but to be read.
export type AnyDeclaration = Declaration<any, any, any, any, any>;

/** Keeps the types of a declaration's schemas. */
export function declare<
  Params extends z.ZodObject = NoFields,
  Query extends z.ZodObject = NoFields,
  Body extends z.ZodType = z.ZodUndefined,
  Answer extends z.ZodType = z.ZodUndefined,
  Position extends z.ZodType = z.ZodNever,
>(declaration: Declaration<Params, Query, Body, Answer, Position>): Declaration<Params, Query, Body, Answer, Position> {
  return declaration;
}

/** A declaration with its handler. Making it must touch nothing but its arguments. */
export function serve<
  Params extends z.ZodObject,
  Query extends z.ZodObject,
  Body extends z.ZodType,
  Answer extends z.ZodType,
  Position extends z.ZodType,
>(
  declaration: Declaration<Params, Query, Body, Answer, Position>,
  handle: (
    asked: Asked<Params, Query, Body, Position>,
  ) => [Answer] extends [z.ZodUndefined] ? Promise<void> : Promise<Given<Answer, Position>>,
  repositoryOf?: ApiRoute['repositoryOf'],
): ApiRoute {
  return {
    declaration: declaration as unknown as Declaration,
    handle,
    ...(repositoryOf === undefined ? {} : { repositoryOf }),
  };
}

/** The whole answer of a route with pages. */
export function pageSchema(item: z.ZodType): z.ZodType {
  return z.object({
    items: z.array(item),
    next: z.string().optional().describe('Give it as `after` for the page that follows. Absent on the last page.'),
  });
}
