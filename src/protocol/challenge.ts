/**
 * WWW-Authenticate: the only place that knows challenges and scopes (Distribution's token specification; RFC 6750 §3;
 * RFC 9110 §11.6.1). Bearer first, then Basic as a header of its own, because some clients read only the first.
 */
import { isRepositoryName } from '../oci/repository-name.ts';
import { parseQuery } from './query.ts';
import type { Route } from './route.ts';

/** The scopes that a request needs, separated by spaces; undefined for `/v2/`. */
export function scopeOf(route: Route, method: string, target: string): string | undefined {
  if (route.kind === 'base') return undefined;
  if (route.kind === 'catalog') return 'registry:catalog:*';
  const own = `repository:${route.repository}:${actionsOf(route.kind, method)}`;
  if (route.kind !== 'uploads') return own;
  const from = mountSource(target);
  return from === undefined || from === route.repository ? own : `${own} repository:${from}:pull`;
}

function actionsOf(kind: Route['kind'], method: string): string {
  if (kind === 'upload' || kind === 'uploads') return 'pull,push';
  if (method === 'GET' || method === 'HEAD') return 'pull';
  return method === 'DELETE' ? 'delete' : 'pull,push';
}

/** The repository of a mount, where the query is well formed. */
function mountSource(target: string): string | undefined {
  try {
    const { from } = parseQuery(target);
    return from !== undefined && isRepositoryName(from) ? from : undefined;
  } catch {
    return undefined;
  }
}

/** RFC 6750 §3.1. */
export type ChallengeError = 'invalid_token' | 'insufficient_scope';

/** What a challenge says. */
export interface Challenge {
  readonly realm: string | undefined;
  readonly service: string;
  readonly scope: string | undefined;
  readonly error: ChallengeError | undefined;
}

/** The headers of a 401. */
export function challengeHeaders(challenge: Challenge): string[] {
  const headers: string[] = [];
  if (challenge.realm !== undefined) {
    let bearer = `Bearer realm="${quotable(challenge.realm)}",service="${quotable(challenge.service)}"`;
    if (challenge.scope !== undefined) bearer += `,scope="${challenge.scope}"`;
    if (challenge.error !== undefined) bearer += `,error="${challenge.error}"`;
    headers.push('WWW-Authenticate', bearer);
  }
  headers.push('WWW-Authenticate', `Basic realm="${quotable(challenge.service)}"`);
  return headers;
}

/** Printable ASCII for a quoted string; what is not is left out. */
function quotable(text: string): string {
  let out = '';
  for (const c of text) {
    if (c === '"' || c === '\\') out += `\\${c}`;
    else if (c >= ' ' && c <= '~') out += c;
  }
  return out;
}
