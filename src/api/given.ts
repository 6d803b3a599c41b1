/** What a request brings, checked against its route's schemas: path, query, conditions, body. Nothing undeclared passes. */
import type * as z from 'zod';
import { isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/names.ts';
import { ApiError, type Flaw } from './problem.ts';

const MAX_FLAWS = 20;
const MAX_PAIRS = 50;
/** A schema that wraps another: `.optional()`, `.default()`. */
type Wrapping = { readonly def: { readonly type: string; readonly innerType?: Wrapping } };

/** Parses, or throws ApiError `invalid` that names all flaws. `part`: path, query, body. */
export function parsed<S extends z.ZodType>(schema: S, value: unknown, part: string): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new ApiError('invalid', `The ${part} is not as this route takes it.`, {
    flaws: result.error.issues.slice(0, MAX_FLAWS).flatMap((issue) => flawsOf(issue, part)),
  });
}

function flawsOf(issue: z.core.$ZodIssue, part: string): Flaw[] {
  const at = [part, ...issue.path.map(String)].join('.');
  if (issue.code !== 'unrecognized_keys') return [{ at, message: issue.message }];
  return issue.keys
    .slice(0, MAX_FLAWS)
    .map((key) => ({ at: `${at}.${key.slice(0, 100)}`, message: 'is not known here' }));
}

const bad = (message: string): ApiError => new ApiError('invalid', message);

/** The query of a raw target: strictly decoded, `+` stays a plus, each name once. Numbers as numbers where the schema has one. */
export function queryOf(target: string, schema: z.ZodObject): Record<string, unknown> {
  const start = target.indexOf('?');
  if (start < 0 || start === target.length - 1) return {};
  const pairs = target.slice(start + 1).split('&');
  if (pairs.length > MAX_PAIRS) throw bad(`The query has more than ${MAX_PAIRS} parameters.`);
  const query: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  for (const pair of pairs) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = decoded(equals < 0 ? pair : pair.slice(0, equals));
    const text = equals < 0 ? '' : decoded(pair.slice(equals + 1));
    if (name in query) throw bad('A parameter of the query is given more than once.');
    const known = Object.hasOwn(schema.shape, name) ? (schema.shape[name] as unknown as Wrapping) : undefined;
    query[name] = typedValue(text, known);
  }
  return { ...query };
}

function decoded(text: string): string {
  let plain: string;
  try {
    plain = decodeURIComponent(text);
  } catch {
    throw bad('The query is not well encoded.');
  }
  for (const character of plain) {
    const code = character.codePointAt(0) ?? 0;
    if (code < 0x20 || code === 0x7f) throw bad('The query holds a control character.');
  }
  return plain;
}

/** What is no number stays text, for the schema to refuse. */
function typedValue(text: string, schema: Wrapping | undefined): unknown {
  let at = schema;
  while (at?.def.innerType !== undefined) at = at.def.innerType;
  const type = at?.def.type;
  if ((type === 'number' || type === 'int') && /^\d{1,15}$/.test(text)) return Number(text);
  if (type === 'boolean' && (text === 'true' || text === 'false')) return text === 'true';
  return text;
}

/** A JSON body, whole and in UTF-8; undefined where there is none. */
export function jsonOf(body: unknown): unknown {
  if (!(body instanceof Uint8Array) || body.length === 0) return undefined;
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body)) as unknown;
  } catch {
    throw bad('The body is not JSON in UTF-8.');
  }
}

/** Where `If-Match: "DIGEST"` or `If-None-Match: *` expects a tag; undefined where neither is given. */
export function expectationOf(ifMatch: string | undefined, ifNoneMatch: string | undefined): Digest | null | undefined {
  if (ifMatch !== undefined && ifNoneMatch !== undefined) throw bad('Give If-Match or If-None-Match, not both.');
  if (ifMatch !== undefined) {
    const text = /^"([^"]{1,140})"$/.exec(ifMatch.trim())?.[1] ?? '';
    if (!isDigest(text)) throw bad('If-Match must be one digest in double quotes.');
    return text;
  }
  if (ifNoneMatch === undefined) return undefined;
  if (ifNoneMatch.trim() !== '*') throw bad('If-None-Match can only be *: the tag must not exist.');
  return null;
}
