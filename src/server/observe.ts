/** Counts and logs the requests that are not the protocol's, which does so itself. Labels are from closed sets. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '../kit/clock.ts';
import { requestId } from '../kit/id.ts';
import type { Metrics } from '../kit/log.ts';
import type { AccessLog } from '../telemetry/access-log.ts';
import { pathOf } from './answer.ts';
import type { PeerFacts } from './forwarded.ts';

const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);
const PATHS = new Set(['/livez', '/readyz', '/metrics', '/token']);
/** Asked by machines every few seconds: counted, not logged. */
const UNLOGGED = new Set(['/livez', '/readyz', '/metrics']);

/** The function that a listener calls for each such request. */
export function observer(parts: {
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly peerOf: (request: IncomingMessage) => PeerFacts;
  readonly accessLog: AccessLog | undefined;
}): (request: IncomingMessage, response: ServerResponse) => void {
  const { clock, accessLog } = parts;
  const count = parts.metrics.counter('longshore_other_requests_total', 'Requests that were not to /v2/, answered.');
  return (request, response) => {
    const began = clock.monotonic();
    const path = pathOf(request);
    // Asked now: a connection that is gone has no address.
    const { address } = parts.peerOf(request);
    response.once('close', () => {
      const method = request.method ?? '';
      const route = PATHS.has(path) ? path.slice(1) : path.startsWith('/api/') ? 'api' : 'none';
      const status = response.headersSent ? response.statusCode : 499;
      count(1, { method: METHODS.has(method) ? method : 'other', route, status: `${Math.floor(status / 100)}xx` });
      if (UNLOGGED.has(path) && status < 400) return;
      const length = Number(response.getHeader('content-length') ?? 0);
      accessLog?.write({
        requestId: requestId(),
        method,
        path: (request.url ?? '').slice(0, 512),
        status,
        bytes: method === 'HEAD' || !Number.isSafeInteger(length) ? 0 : length,
        milliseconds: clock.monotonic() - began,
        user: '',
        address,
        userAgent: request.headers['user-agent'] ?? '',
      });
    });
  };
}
