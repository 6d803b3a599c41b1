/** The OpenAPI 3.1 document of the routes that there are: made from their declarations, never written by hand. */
import * as z from 'zod';
import { PAGE_QUERY } from './page.ts';
import { type ApiCode, PROBLEMS } from './problem.ts';
import { type AnyDeclaration, API_PREFIX, type Declaration, pageSchema } from './route.ts';

type Json = { [key: string]: unknown };

/** What any route may refuse with, besides what its right adds. */
const ALWAYS: readonly ApiCode[] = ['invalid', 'unauthorized', 'too_many_requests', 'unknown', 'unavailable'];

/** Schemas by their ids, gathered while the document is made. */
type Components = Map<string, Json>;

/** A schema in JSON Schema 2020-12, with those that have an id moved to the components. */
function schemaOf(schema: z.ZodType, io: 'input' | 'output', components: Components): Json {
  const { $schema: _, $defs, ...own } = z.toJSONSchema(schema, { io, unrepresentable: 'any' }) as Json;
  for (const [id, definition] of Object.entries(($defs ?? {}) as Record<string, Json>)) {
    const { id: _id, ...rest } = definition;
    components.set(id, rewritten(rest));
  }
  const { id, ...rest } = own;
  if (typeof id !== 'string') return rewritten(rest);
  components.set(id, rewritten(rest));
  return { $ref: `#/components/schemas/${id}` };
}

function rewritten(value: Json): Json {
  return JSON.parse(JSON.stringify(value).replaceAll('#/$defs/', '#/components/schemas/')) as Json;
}

function parametersOf(declaration: Declaration, components: Components): Json[] {
  const parameters: Json[] = [];
  const add = (where: 'path' | 'query', shape: Readonly<Record<string, z.ZodType>>): void => {
    for (const [name, schema] of Object.entries(shape)) {
      const node = schemaOf(schema, 'input', components);
      const { description, ...rest } = node;
      parameters.push({
        name,
        in: where,
        required: where === 'path' || !schema.safeParse(undefined).success,
        ...(description === undefined ? {} : { description }),
        schema: rest,
      });
    }
  };
  add('path', (declaration.params?.shape ?? {}) as Record<string, z.ZodType>);
  add('query', (declaration.query?.shape ?? {}) as Record<string, z.ZodType>);
  if (declaration.position !== undefined) add('query', PAGE_QUERY);
  if (declaration.conditions === true) {
    const header = (name: string, description: string): Json => ({
      name,
      in: 'header',
      required: false,
      description,
      schema: { type: 'string' },
    });
    parameters.push(
      header('If-Match', 'The digest, in double quotes, at which the tag must be now.'),
      header('If-None-Match', 'Only `*`: the tag must not exist now.'),
    );
  }
  return parameters;
}

function refusalsOf({ right, body, method, refusals = [] }: Declaration): ApiCode[] {
  const codes = new Set<ApiCode>([...ALWAYS, ...refusals]);
  if (right.on !== 'anyone') codes.add('forbidden');
  if (method !== 'GET') codes.add('forbidden');
  if (right.on === 'repository' || right.on === 'found') codes.add('not_found');
  if (body !== undefined) for (const code of ['too_large', 'unsupported_media_type'] as const) codes.add(code);
  return [...codes].sort((a, b) => PROBLEMS[a].status - PROBLEMS[b].status);
}

function operationOf(declaration: Declaration, components: Components): Json {
  const { operation, tag, summary, description, right, body, answer, position } = declaration;
  const status = declaration.status ?? 200;
  const whole = answer === undefined || position === undefined ? answer : pageSchema(answer);
  const responses: Json = {
    [status]: {
      description: whole === undefined ? 'Done.' : 'The answer.',
      ...(position === undefined
        ? {}
        : { headers: { Link: { description: 'The page that follows, rel="next".', schema: { type: 'string' } } } }),
      ...(whole === undefined
        ? {}
        : { content: { 'application/json': { schema: schemaOf(whole, 'output', components) } } }),
    },
  };
  for (const code of refusalsOf(declaration)) {
    const key = PROBLEMS[code].status;
    responses[key] = { $ref: `#/components/responses/${code}` };
  }
  const parameters = parametersOf(declaration, components);
  return {
    operationId: operation,
    tags: [tag],
    summary,
    ...(description === undefined ? {} : { description }),
    'x-longshore-right': right,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined
      ? {}
      : {
          requestBody: {
            required: declaration.bodyOptional !== true,
            content: { 'application/json': { schema: schemaOf(body, 'input', components) } },
          },
        }),
    responses,
    security: right.on === 'anyone' ? [] : [{ basic: [] }, { bearer: [] }, {}],
  };
}

const PROBLEM: Json = {
  type: 'object',
  description: 'RFC 9457. `code` is for programs, `detail` for people.',
  properties: {
    type: { type: 'string' },
    title: { type: 'string' },
    status: { type: 'integer' },
    code: { type: 'string', enum: Object.keys(PROBLEMS) },
    detail: { type: 'string' },
    about: { description: 'The facts that the detail speaks of.' },
    flaws: {
      type: 'array',
      items: {
        type: 'object',
        properties: { at: { type: 'string' }, message: { type: 'string' } },
        required: ['at', 'message'],
      },
    },
    requestId: { type: 'string', description: 'By which the log knows the request.' },
  },
  required: ['type', 'title', 'status', 'code', 'requestId'],
};

function responses(): Json {
  return Object.fromEntries(
    (Object.keys(PROBLEMS) as ApiCode[]).map((code) => {
      const { status, title } = PROBLEMS[code];
      const headers: Json = {
        ...(status === 429 || status === 503
          ? { 'Retry-After': { description: 'Seconds.', schema: { type: 'integer', minimum: 1 } } }
          : {}),
        ...(status === 401
          ? { 'WWW-Authenticate': { description: 'How to sign in.', schema: { type: 'string' } } }
          : {}),
      };
      return [
        code,
        {
          description: title,
          ...(Object.keys(headers).length === 0 ? {} : { headers }),
          content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
        },
      ];
    }),
  );
}

const DESCRIPTION = `Everything that \`/v2/\` has no words for.

A repository's name is one segment of a path, percent-encoded: the tags of \`library/alpine\` are at
\`/api/v1/repositories/library%2Falpine/tags\`.

Credentials are those of \`/v2/\`: Basic, or a Bearer token of the token endpoint. What may not be seen is answered as if
it did not exist: 401 to whoever did not sign in, otherwise 404. Every body is JSON, at most 64 KiB, and a field that is
not known is refused. Lists come in pages: give the \`next\` of one as \`after\` for the one that follows.`;

/** The document. Two declarations of one method and path, or of one operation, are a mistake in the program. */
export function openapiDocument(declarations: readonly AnyDeclaration[]): Json {
  const components: Components = new Map([['Problem', PROBLEM]]);
  const paths: Record<string, Json> = {};
  const operations = new Set<string>();
  const sorted = [...declarations].sort((a, b) =>
    a.path === b.path ? (a.method < b.method ? -1 : 1) : a.path < b.path ? -1 : 1,
  );
  for (const declaration of sorted) {
    const path = `${API_PREFIX}${declaration.path}`;
    const method = declaration.method.toLowerCase();
    const at = (paths[path] ??= {});
    if (method in at || operations.has(declaration.operation)) {
      throw new Error(`two routes are ${declaration.method} ${path}, or are called ${declaration.operation}`);
    }
    operations.add(declaration.operation);
    at[method] = operationOf(declaration, components);
  }
  return {
    openapi: '3.1.1',
    info: {
      title: 'Longshore',
      version: '1',
      description: DESCRIPTION,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      schemas: Object.fromEntries([...components].sort(([a], [b]) => (a < b ? -1 : 1))),
      responses: responses(),
      securitySchemes: {
        basic: { type: 'http', scheme: 'basic' },
        bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
      },
    },
  };
}
