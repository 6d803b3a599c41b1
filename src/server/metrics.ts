/**
 * /metrics. On a listener of its own whoever reaches it may read; on the registry's own listener only this machine
 * may, or whoever has the token (threats row 77).
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { answer, onlyReads, problem, type RawHandler } from './answer.ts';
import { isLoopback, type PeerFacts } from './forwarded.ts';

/** What the route needs. */
export interface MetricsRoute {
  /** The exposition text; of all processes where there are several. */
  readonly text: () => string | Promise<string>;
  readonly token?: string | undefined;
  /** Where the route is on the registry's listener: who asks. Absent on a listener of its own. */
  readonly peerOf?: (request: IncomingMessage) => PeerFacts;
}

/** The handler. */
export function metricsRoute(parts: MetricsRoute): RawHandler {
  return (request, response) => {
    if (!onlyReads(request, response)) return;
    if (!mayRead(request, parts)) {
      const challenge: Record<string, string> =
        parts.token === undefined ? {} : { 'WWW-Authenticate': 'Bearer realm="metrics"' };
      return problem(request, response, parts.token === undefined ? 403 : 401, 'Metrics are not for you.', challenge);
    }
    void Promise.resolve(parts.text()).then(
      (text) => answer(request, response, 200, 'text/plain; version=0.0.4; charset=utf-8', text),
      () => problem(request, response, 500, 'The metrics could not be collected.'),
    );
  };
}

function mayRead(request: IncomingMessage, parts: MetricsRoute): boolean {
  if (parts.token !== undefined) {
    const given = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
    return timingSafeEqual(sha256(given), sha256(parts.token));
  }
  if (parts.peerOf === undefined) return true;
  // A proxy on this machine that is not named as trusted would make strangers look local: it leaves its mark.
  const { headers } = request;
  const passedOn = headers['x-forwarded-for'] ?? headers.forwarded ?? headers.via ?? headers['x-real-ip'];
  const peer = parts.peerOf(request);
  return isLoopback(peer.address) && (peer.proxied || passedOn === undefined);
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
