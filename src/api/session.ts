/**
 * Who calls the REST API, and whether they may. The same authenticator and the same rule as on `/v2/`; there are no
 * cookies. A write that a page of another origin made a browser send is refused whatever it carries (threats.md 57).
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Access, Authenticator, Peer } from '../access/access.ts';
import { INSUFFICIENT_SCOPE } from '../access/decide.ts';
import { REGISTRY_ITSELF } from '../access/rights.ts';
import { type ChallengeDetail, scopeOf } from '../access/with-access.ts';
import { RegistryError } from '../oci/error.ts';
import type { RepositoryName } from '../oci/names.ts';
import type { Action, Call, Principal } from '../registry/call.ts';
import { ApiError } from './problem.ts';

/** The other end of a request. */
export interface ApiPeer extends Peer {
  /** The host that was asked for, with its port; empty where there is none. */
  readonly host: string;
  readonly scheme: 'http' | 'https';
}

/** What tells callers apart. */
export interface SessionParts {
  readonly authenticator: Authenticator;
  readonly access: Access;
  /** The other end, trusted proxies considered. */
  peerOf(request: IncomingMessage): ApiPeer;
  /** Where clients find the server, if it was configured: the origin of its own pages. */
  readonly publicUrl?: string | undefined;
}

const LONGEST_TEXT = 256;
const WRITES: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'DELETE']);

/** Said of what is not there and of what may not be seen, so that the two cannot be told apart. */
export const NOT_SEEN = 'There is no such repository, or you may not see it.';

/** The call of a request: as on `/v2/`, so that history and events say the same of both. */
export async function callOf(
  parts: SessionParts,
  request: IncomingMessage,
  response: ServerResponse,
  requestId: string,
): Promise<Call> {
  const peer = parts.peerOf(request);
  const principal = await parts.authenticator.authenticate({ authorization: request.headers.authorization }, peer);
  const userAgent = request.headers['user-agent'];
  const gone = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) gone.abort(new Error('the client has gone'));
  });
  return {
    principal,
    requestId,
    signal: gone.signal,
    origin: {
      address: peer.address.slice(0, LONGEST_TEXT),
      host: peer.host.slice(0, LONGEST_TEXT),
      method: request.method ?? '',
      ...(userAgent === undefined ? {} : { userAgent: userAgent.slice(0, LONGEST_TEXT) }),
    },
  };
}

/**
 * Refuses a write that a browser sends for a page of another origin: `Origin` or `Sec-Fetch-Site` say so. What carries
 * a cookie and does not say where it comes from is refused too. Programs send neither.
 */
export function refuseForeignWrite(parts: Pick<SessionParts, 'peerOf' | 'publicUrl'>, request: IncomingMessage): void {
  if (!WRITES.has(request.method ?? '')) return;
  const { origin, cookie, 'sec-fetch-site': site } = request.headers;
  const foreign = site !== undefined && site !== 'same-origin' && site !== 'none';
  const from = origin === undefined ? undefined : origin.toLowerCase();
  if (!foreign && (from === undefined ? cookie === undefined : ownOrigins(parts, request).includes(from))) return;
  throw new ApiError('forbidden', 'A page of another origin may not change anything here.');
}

function ownOrigins(parts: Pick<SessionParts, 'peerOf' | 'publicUrl'>, request: IncomingMessage): string[] {
  const { scheme, host } = parts.peerOf(request);
  const own = host === '' ? [] : [`${scheme}://${host}`.toLowerCase()];
  return parts.publicUrl === undefined ? own : [...own, new URL(parts.publicUrl).origin];
}

/**
 * Throws unless the caller may. Anonymous: 401 with a challenge, whether the repository exists or not; a token that is
 * too narrow: 401 with the scope it lacks; signed in and unable to see the repository: 404, as if it did not exist;
 * otherwise 403. `repository` undefined: the registry itself.
 */
export async function authorize(
  access: Access,
  call: Call,
  action: Action,
  repository: RepositoryName | undefined,
): Promise<void> {
  const decision = await access.may(call, action, repository ?? REGISTRY_ITSELF);
  if (decision.allowed) return;
  const scope = scopeOf(action, repository ?? '');
  if (decision.reason === INSUFFICIENT_SCOPE) {
    throw unauthorized('The token is not for this. Ask for one with the scope of the challenge.', {
      scope,
      error: INSUFFICIENT_SCOPE,
    });
  }
  if (isAnonymous(call.principal)) throw unauthorized('Authentication is required. Log in first.', { scope });
  if (repository !== undefined && !decision.visible) throw new ApiError('not_found', NOT_SEEN);
  throw new ApiError('forbidden', 'You may not do this here. Ask whoever runs the registry for the right.');
}

/** Whether nobody signed in. */
export function isAnonymous(principal: Principal): boolean {
  return principal.kind === 'anonymous';
}

/** The 401 of the seam: its detail is for the challenge, not for the body. */
export function unauthorized(message: string, detail: ChallengeDetail = {}): RegistryError {
  return new RegistryError('UNAUTHORIZED', message, { detail });
}
