/** The listeners of a serving process: the protocol in front, probes, metrics, and the web application. */
import { resolve } from 'node:path';
import type { ChallengeDetail } from './access/with-access.ts';
import type { Base, Core } from './compose.ts';
import { LIMITS } from './config/limits.ts';
import { transferBuffers } from './kit/buffers.ts';
import { challengeHeaders } from './protocol/challenge.ts';
import { clientErrorAnswer, connectAnswer } from './protocol/client-error.ts';
import { protocolHandler } from './protocol/handler.ts';
import type { ProtocolParts } from './protocol/parts.ts';
import type { RawHandler } from './server/answer.ts';
import type { Membership } from './server/cluster.ts';
import { peers } from './server/forwarded.ts';
import { openHealth } from './server/health.ts';
import { type Listener, type ListenerLimits, openListener } from './server/http.ts';
import { metricsRoute } from './server/metrics.ts';
import { observer } from './server/observe.ts';
import { type AccessLog, openAccessLog } from './telemetry/access-log.ts';
import type { Tracing } from './telemetry/trace.ts';

/** The listeners of a serving process. */
export interface Serving {
  readonly port: number;
  readonly listeners: readonly Listener[];
  readonly accessLog: AccessLog | undefined;
  readonly state: { stopping: boolean };
}

/** Opens and starts them. `snapshots`: of every process, where there are several. */
export async function openServing(
  base: Base,
  core: Core,
  metricsOf: { readonly snapshots: Membership['snapshots'] | undefined },
): Promise<Serving> {
  const { config, log, metrics, clock } = base;
  const { access, database, storage } = core;
  const state = { stopping: false };
  const { forRequests } = core;
  const buffers = transferBuffers({ budget: config.limits.transferBufferBytes });
  const lent = metrics.gauge('longshore_transfer_buffer_bytes', 'Bytes of transfer buffers in use.');
  const peerOf = peers(config.server.trustedProxies);
  const accessLog =
    config.log.access === false
      ? undefined
      : openAccessLog(config.log.access === true ? 1 : resolve(config.log.access), log, clock);
  const { publicUrl } = config.server;
  const { tracing } = core;
  const realm = (peer: { readonly scheme: string; readonly host: string }): string | undefined => {
    if (publicUrl !== undefined) return new URL('/token', publicUrl).href;
    return peer.host === '' ? undefined : `${peer.scheme}://${peer.host}/token`;
  };

  const handler = protocolHandler({
    registry: forRequests,
    authenticator: access.authenticator,
    authorize: (call, action, repository) => forRequests.authorize(call, action, repository),
    mayPushAnonymously: () => access.anonymousMode() === 'push',
    peerOf,
    realm,
    service: access.tokens.settings.service,
    buffers,
    log,
    accessLog: accessLog === undefined ? undefined : (line) => accessLog.write(line),
    metrics,
    clock,
    state: () => 'ready',
    limits: {
      targetBytes: LIMITS.targetBytes.value,
      manifestBytes: config.manifests.maxBytes,
      tagsPerPush: LIMITS.tagsPerPush.value,
      tagsPage: LIMITS.tagsPage.value,
      catalogPageCap: LIMITS.catalogPage.value,
      referrersPage: LIMITS.referrersPage.value,
      minimumRate: {
        bytesPerSecond: config.limits.minimumRate,
        milliseconds: config.limits.minimumRateSeconds * 1000,
      },
      discarded: LIMITS.discardBytes.value,
    },
    cors: config.server.corsOrigins.length === 0 ? undefined : { origins: config.server.corsOrigins },
    trace: tracing === undefined ? undefined : traceRequests(tracing),
  });

  const health = openHealth({
    checks: { database: () => database.ping(), storage: () => storage.ping() },
    state: () => (state.stopping ? 'stopping' : undefined),
    clock,
    log,
  });
  const own = config.server.metricsListen;
  const text = async (): Promise<string> => metrics.text(await metricsOf.snapshots?.());
  const probes = [['/livez', health.livez] as const, ['/readyz', health.readyz] as const];
  const { metricsToken: token } = config.server;
  const limits: ListenerLimits = {
    ...config.limits,
    http2StreamWindowBytes: LIMITS.http2StreamWindowBytes.value,
    http2SessionWindowBytes: LIMITS.http2SessionWindowBytes.value,
    headerBytes: LIMITS.headerBytes.value,
    headerCount: LIMITS.headerCount.value,
  };
  const observe = observer({ metrics, clock, peerOf, accessLog });
  const main = await openListener({
    protocol: { handler: handler as RawHandler, clientErrorAnswer, connectAnswer },
    routes: new Map([
      ...probes,
      ...(own === undefined ? [['/metrics', metricsRoute({ text, token, peerOf })] as const] : []),
    ]),
    application: {
      serves: (path) => path === '/token' || path === '/api' || path.startsWith('/api/'),
      open: async () => {
        const [{ openApplication }, { tokenRoutes }, { apiRoutes }, routes] = await Promise.all([
          import('./server/application.ts'),
          import('./api/token.ts'),
          import('./api/plugin.ts'),
          core.apiRoutes(),
        ]);
        const tokenPlugin = tokenRoutes({ ...access, peerOf: (request) => peerOf(request.raw) });
        const apiPlugin = apiRoutes({
          routes,
          authenticator: access.authenticator,
          access: access.access,
          peerOf,
          publicUrl,
          challenge: (request, detail) =>
            challengeValues(realm(peerOf(request)), access.tokens.settings.service, detail),
          log,
        });
        return openApplication([tokenPlugin, apiPlugin], log);
      },
    },
    tls: config.server.tls,
    trustedProxies: config.server.trustedProxies,
    limits,
    observe,
    log,
  });
  const listeners = [main];
  // With several processes one listener has one port: the members share it, and each answers for all.
  if (own !== undefined) {
    const routes = new Map([...probes, ['/metrics', metricsRoute({ text, token })] as const]);
    const listener = await openListener({ routes, limits, log });
    await listener.listen(own);
    listeners.push(listener);
  }
  const connections = metrics.gauge('longshore_connections', 'Open connections.');
  metrics.onScrape(() => {
    lent(buffers.lentBytes);
    connections(listeners.reduce((sum, listener) => sum + listener.connections, 0));
  });
  const { port } = await main.listen(config.server.listen);
  return { port, listeners, accessLog, state };
}

/** The challenges of a 401 outside `/v2/`: the same as there. */
function challengeValues(realm: string | undefined, service: string, detail: ChallengeDetail): string[] {
  const error = CHALLENGE_ERRORS.find((one) => one === detail.error);
  return challengeHeaders({ realm, service, scope: detail.scope, error }).filter((_, index) => index % 2 === 1);
}

const CHALLENGE_ERRORS = ['invalid_token', 'insufficient_scope'] as const;

/** A span for each request to `/v2/`. */
function traceRequests(tracing: Tracing): NonNullable<ProtocolParts['trace']> {
  return (begun) => {
    const span = tracing.request(`${begun.method} ${begun.route}`, begun.traceparent);
    span.set('http.request.method', begun.method);
    span.set('longshore.repository', begun.repository);
    span.set('longshore.request_id', begun.requestId);
    span.enter();
    return (status) => {
      span.set('http.response.status_code', status);
      span.end(status >= 500 ? { name: `status ${status}` } : undefined);
    };
  };
}
