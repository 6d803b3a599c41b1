/**
 * Keyset pages of the REST API: `limit` and an opaque `after`. A cursor says where a page ended; it is bound to its
 * route and path, so that one of another list is refused. It is no secret and no right: whoever makes one by hand
 * starts the list elsewhere, and sees what they may see.
 */
import { createHash } from 'node:crypto';
import * as z from 'zod';
import { ApiError } from './problem.ts';
import { API_PREFIX, type Declaration } from './route.ts';

/** Most items of a page. */
export const MAX_LIMIT = 1_000;
/** Items where the client does not say. */
export const STANDARD_LIMIT = 100;
/** Longest cursor: room for the longest name. */
const MAX_CURSOR = 1_024;
const SUM_BYTES = 9;

/** What a route with pages takes in its query besides its own. */
export const PAGE_QUERY = {
  limit: z.int().min(1).max(MAX_LIMIT).default(STANDARD_LIMIT).describe('Most items of the page.'),
  after: z
    .string()
    .min(1)
    .max(MAX_CURSOR)
    .optional()
    .describe('The `next` of the page before, of the same list. Absent: from the start.'),
};

type Params = Readonly<Record<string, unknown>>;

function sum({ operation }: Declaration, params: Params, text: string): Buffer {
  const whole = JSON.stringify([operation, params, text]);
  return createHash('sha256').update(whole).digest().subarray(0, SUM_BYTES);
}

/** The cursor of a position. */
export function cursorOf(declaration: Declaration, params: Params, position: unknown): string {
  const text = JSON.stringify(position);
  return Buffer.concat([sum(declaration, params, text), Buffer.from(text)]).toString('base64url');
}

/** The position of a cursor; ApiError `invalid` for one that this list did not give. */
export function positionOf(declaration: Declaration, params: Params, cursor: string): unknown {
  const bytes = Buffer.from(cursor, 'base64url');
  const text = bytes.subarray(SUM_BYTES).toString('utf8');
  const own = bytes.length > SUM_BYTES && bytes.toString('base64url') === cursor;
  if (own && sum(declaration, params, text).equals(bytes.subarray(0, SUM_BYTES))) {
    try {
      const parsed = declaration.position?.safeParse(JSON.parse(text));
      if (parsed?.success === true) return parsed.data;
    } catch {
      // Falls through.
    }
  }
  throw new ApiError('invalid', 'The cursor is not of this list.', {
    flaws: [{ at: 'query.after', message: 'must be the `next` of a page of the same list' }],
  });
}

/** The path of a declaration with its parameters filled in, each one percent-encoded segment. */
export function pathFor({ path }: Declaration, params: Params): string {
  const filled = path.replace(/\{(\w+)\}/g, (_all, name: string) => encodeURIComponent(String(params[name])));
  return `${API_PREFIX}${filled}`;
}

/** The Link header of a page that another one follows: path only, everything percent-encoded. */
export function nextLink(
  declaration: Declaration,
  params: Params,
  query: Readonly<Record<string, unknown>>,
  cursor: string,
): string {
  const pairs = Object.entries({ ...query, after: cursor })
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(String(value))}`);
  return `<${pathFor(declaration, params)}?${pairs.join('&')}>; rel="next"`;
}
