/** Cross-origin requests, for browsers' consoles of configured origins only (edge case 100). */
import { ALLOW, type RouteKind } from './route.ts';

const EXPOSED =
  'Docker-Content-Digest, Docker-Distribution-Api-Version, Docker-Upload-UUID, OCI-Subject, OCI-Tag, OCI-Filters-Applied, OCI-Chunk-Min-Length, Location, Link, Range, Content-Range, ETag, WWW-Authenticate, Retry-After, Warning';
const ACCEPTED =
  'Authorization, Accept, Content-Type, Content-Range, Range, If-Match, If-None-Match, If-Range, Cache-Control';

/** Answers with the headers for an origin; none where it is not configured. */
export type Cors = (origin: string) => readonly string[];

/** The rule of the configured origins. An answer depends on Origin even where it is refused, so Vary is always there. */
export function corsRule(origins: readonly string[]): Cors {
  const allowed = new Set(origins);
  const all = allowed.has('*');
  return (origin) =>
    all || allowed.has(origin)
      ? ['Access-Control-Allow-Origin', all ? '*' : origin, 'Access-Control-Expose-Headers', EXPOSED, 'Vary', 'Origin']
      : ['Vary', 'Origin'];
}

/** What a preflight adds to the headers above. */
export function preflightHeaders(kind: RouteKind): readonly string[] {
  return [
    'Access-Control-Allow-Methods',
    ALLOW[kind],
    'Access-Control-Allow-Headers',
    ACCEPTED,
    'Access-Control-Max-Age',
    '600',
  ];
}
