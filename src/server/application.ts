/** Fastify, for everything that is not `/v2/`: made when first asked for, without a listener of its own. */
import type { IncomingMessage } from 'node:http';
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyPluginAsync,
  type FastifyReply,
  fastify,
} from 'fastify';
import { requestId } from '../kit/id.ts';
import type { Log } from '../kit/log.ts';
import type { RawHandler } from './answer.ts';

/** Makes the application with its plugins and gives its handler. Errors are RFC 9457 problems without internals. */
export async function openApplication(plugins: readonly FastifyPluginAsync[], log: Log): Promise<RawHandler> {
  const app: FastifyInstance = fastify({
    loggerInstance: applicationLog(log),
    genReqId: () => requestId(),
    bodyLimit: 1024 * 1024,
    requestTimeout: 0,
    exposeHeadRoutes: true,
    routerOptions: { maxParamLength: 512 },
    // A path that does not decode: in our words, and without repeating it.
    frameworkErrors: (_error, _request, reply) => {
      void (reply as FastifyReply)
        .code(400)
        .header('Cache-Control', 'no-store')
        .header('X-Content-Type-Options', 'nosniff')
        .type('application/problem+json')
        .send({ title: 'The path is not well encoded.', status: 400 });
    },
  });
  app.addHook('onSend', async (_request, reply) => {
    reply.header('X-Content-Type-Options', 'nosniff');
    if (!reply.hasHeader('Cache-Control')) reply.header('Cache-Control', 'no-store');
  });
  app.setNotFoundHandler((_request, reply) => {
    return reply.code(404).type('application/problem+json').send({ title: 'There is nothing here.', status: 404 });
  });
  app.setErrorHandler((error: Error & { statusCode?: number }, request, reply) => {
    const status =
      error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500 ? error.statusCode : 500;
    if (status === 500) log.error('a request failed', { error, requestId: request.id, method: request.method });
    const title =
      status === 500 ? 'Longshore failed in a way it did not foresee; its log has the cause.' : error.message;
    return reply.code(status).type('application/problem+json').send({ title, status, requestId: request.id });
  });
  for (const plugin of plugins) await app.register(plugin);
  await app.ready();
  return (request: IncomingMessage, response) => app.routing(request, response);
}

/** The program's log with the face that Fastify knows. What it says itself is for debugging; errors are errors. */
function applicationLog(log: Log): FastifyBaseLogger {
  const say =
    (line: Log['info']) =>
    (first: unknown, text?: string): void => {
      const { err, error } = (typeof first === 'object' && first !== null ? first : {}) as {
        err?: unknown;
        error?: unknown;
      };
      const cause = err ?? error;
      line(
        typeof first === 'string' ? first : (text ?? 'the web application says'),
        cause instanceof Error ? { error: cause } : {},
      );
    };
  const logger: FastifyBaseLogger = {
    level: 'info',
    fatal: say(log.error),
    error: say(log.error),
    warn: say(log.warn),
    // Two lines of its own for each request: the access log has them.
    info: () => undefined,
    debug: say(log.debug),
    trace: say(log.debug),
    silent: () => undefined,
    child: () => logger,
  } as FastifyBaseLogger;
  return logger;
}
