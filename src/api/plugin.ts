/**
 * Serves the routes of the REST API. For each request, in this order (routes.md §1): path, then who calls and whether
 * they may, then query and conditions, then the body, then the work; the first that refuses is the answer. What goes
 * out is what the route's schema has, and nothing else.
 */
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify';
import * as z from 'zod';
import { type ChallengeDetail, challengeOf } from '../access/with-access.ts';
import { after } from '../kit/clock.ts';
import type { Log } from '../kit/log.ts';
import type { Digest, RepositoryName } from '../oci/names.ts';
import type { Call } from '../registry/call.ts';
import { expectationOf, jsonOf, parsed, queryOf } from './given.ts';
import { openapiDocument } from './openapi.ts';
import { cursorOf, nextLink, PAGE_QUERY, positionOf } from './page.ts';
import { ApiError, asApiError, problemOf, retryAfterOf } from './problem.ts';
import { API_PREFIX, type ApiRoute, type Declaration, declare, type Method, pageSchema, serve } from './route.ts';
import {
  authorize,
  callOf,
  isAnonymous,
  NOT_SEEN,
  refuseForeignWrite,
  type SessionParts,
  unauthorized,
} from './session.ts';

/** Bytes of a body, where a route says nothing else. */
const BODY_BYTES = 64 * 1024;
/** Path and query, bytes; as on `/v2/`. */
const TARGET_BYTES = 8 * 1024;
/** A body that has not come whole after this many milliseconds ends its connection. */
const BODY_MILLISECONDS = 60_000;
/** What is read and dropped of a body that was answered early: bytes, milliseconds. As on `/v2/`. */
const DISCARD_BYTES = 16 * 1024 * 1024;
const DISCARD_MILLISECONDS = 5_000;
const METHODS: readonly Method[] = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];
const JSON_TYPE = 'application/json; charset=utf-8';
const PROBLEM_TYPE = 'application/problem+json; charset=utf-8';

/** What the API stands on. */
export interface ApiParts extends SessionParts {
  readonly routes: readonly ApiRoute[];
  /** The values of WWW-Authenticate for a request that is refused with 401. */
  challenge(request: IncomingMessage, detail: ChallengeDetail): readonly string[];
  readonly log: Log;
}

/** What is known of a request before its body is read. */
interface Known {
  readonly call: Call;
  readonly params: Readonly<Record<string, unknown>>;
  readonly query: Readonly<Record<string, unknown>>;
  readonly page: { readonly limit: number; readonly after?: unknown };
  readonly expect: Digest | null | undefined;
}

const NO_FIELDS = z.strictObject({});

/** GET /api/v1/openapi.json */
export const OPENAPI = declare({
  operation: 'getOpenapi',
  method: 'GET',
  path: '/openapi.json',
  tag: 'about',
  summary: 'This document.',
  right: { on: 'anyone' },
  answer: z.record(z.string(), z.unknown()),
});

/** The API as a plugin of its own scope: its parsers and error texts reach nothing else. */
export function apiRoutes(parts: ApiParts): FastifyPluginAsync {
  return async (root) => {
    await root.register(
      async (app) => {
        app.removeAllContentTypeParsers();
        app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
        app.addHook('onSend', async (_request, reply) => {
          reply.header('content-security-policy', "default-src 'none'; frame-ancestors 'none'; sandbox");
        });
        app.setErrorHandler((error, request, reply) => refuse(parts, request, reply, error));
        app.setNotFoundHandler((request, reply) =>
          refuse(parts, request, reply, new ApiError('not_found', 'There is no such route.')),
        );
        let document: Readonly<Record<string, unknown>> | undefined;
        const all: readonly ApiRoute[] = [
          ...parts.routes,
          serve(OPENAPI, async () => (document ??= openapiDocument(all.map((route) => route.declaration)))),
        ];
        for (const route of all) add(app, parts, route);
        refuseOtherMethods(app, parts, all);
      },
      { prefix: API_PREFIX },
    );
  };
}

/** The path as the router writes it. */
function routed(path: string): string {
  return path.replace(/\{(\w+)\}/g, ':$1');
}

function add(app: FastifyInstance, parts: ApiParts, route: ApiRoute): void {
  const { declaration } = route;
  const known = new WeakMap<FastifyRequest, Known>();
  const query = (declaration.query ?? NO_FIELDS).extend(declaration.position === undefined ? {} : PAGE_QUERY);
  const { answer: item, position } = declaration;
  const answer = item === undefined || position === undefined ? item : pageSchema(item);
  app.route({
    method: declaration.method,
    url: routed(declaration.path),
    bodyLimit: declaration.bodyBytes ?? BODY_BYTES,
    onRequest: async (request, reply) => {
      known.set(request, await before(parts, route, query, request, reply));
    },
    handler: async (request, reply) => {
      const { call, params, query: asked, page, expect } = known.get(request)!;
      const body = bodyOf(declaration, request.body);
      const given = { call, params, query: asked, body, page, ...(expect === undefined ? {} : { expect }) };
      let value = await route.handle(given);
      if (position !== undefined) {
        const { items, next } = value as { items: readonly unknown[]; next?: unknown };
        const cursor = next === undefined ? undefined : cursorOf(declaration, params, next);
        if (cursor !== undefined) reply.header('link', nextLink(declaration, params, asked, cursor));
        value = { items, ...(cursor === undefined ? {} : { next: cursor }) };
      }
      reply.code(declaration.status ?? 200);
      if (answer === undefined) return reply.send();
      return reply.type(JSON_TYPE).send(JSON.stringify(answer.parse(value)));
    },
  });
}

/** Everything that is decided before the body is read. */
async function before(
  parts: ApiParts,
  route: ApiRoute,
  schema: z.ZodObject,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<Known> {
  const { declaration } = route;
  const target = request.raw.url ?? '';
  if (target.length > TARGET_BYTES)
    throw new ApiError('target_too_long', `Path and query are at most ${TARGET_BYTES} bytes.`);
  const given = parsed(declaration.params ?? NO_FIELDS, request.params, 'path') as Record<string, string>;
  refuseForeignWrite(parts, request.raw);
  const call = await callOf(parts, request.raw, reply.raw, request.id);
  await checkRight(parts, route, call, given);
  const {
    limit,
    after: cursor,
    ...query
  } = parsed(schema, queryOf(target, schema), 'query') as {
    limit?: number;
    after?: string;
    [name: string]: unknown;
  };
  const position = cursor === undefined ? undefined : positionOf(declaration, given, cursor);
  const { 'if-match': ifMatch, 'if-none-match': ifNoneMatch } = request.headers;
  const expect = declaration.conditions === true ? expectationOf(ifMatch, ifNoneMatch) : undefined;
  boundBody(request);
  return {
    call,
    params: given,
    query: limit === undefined ? query : { ...query, limit },
    page: { limit: limit ?? 0, ...(position === undefined ? {} : { after: position }) },
    expect,
  };
}

async function checkRight(
  { access }: ApiParts,
  route: ApiRoute,
  call: Call,
  params: Readonly<Record<string, string>>,
): Promise<void> {
  const { right } = route.declaration;
  if (right.on === 'anyone') return;
  if (right.on === 'registry') return authorize(access, call, right.action, undefined);
  if (right.on === 'repository') return authorize(access, call, right.action, params.name as RepositoryName);
  // Alike for what does not exist and for what may not be seen.
  const repository = await route.repositoryOf?.(params);
  if (
    isAnonymous(call.principal) &&
    (repository === undefined || !(await access.may(call, right.action, repository)).allowed)
  ) {
    throw unauthorized('Authentication is required. Log in first.');
  }
  if (repository === undefined) throw new ApiError('not_found', NOT_SEEN);
  await authorize(access, call, right.action, repository);
}

/** A body that trickles ends its connection. */
function boundBody({ raw }: FastifyRequest): void {
  if (raw.complete) return;
  const stop = after(BODY_MILLISECONDS, () => {
    if (!raw.complete) raw.destroy();
  });
  raw.once('end', stop).once('close', stop);
}

function bodyOf({ body: schema, bodyOptional }: Declaration, given: unknown): unknown {
  const value = jsonOf(given);
  if (schema !== undefined) return parsed(schema, value === undefined && bodyOptional === true ? {} : value, 'body');
  if (value !== undefined) throw new ApiError('invalid', 'This route takes no body.');
  return undefined;
}

/** What is left of a refused body is read and dropped before the answer, within bounds: else a reset would hide it. */
async function discardRest({ raw }: FastifyRequest): Promise<void> {
  if (raw.complete || raw.destroyed) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const stop = after(DISCARD_MILLISECONDS, resolve);
  let bytes = 0;
  raw.on('data', (part: Buffer) => {
    bytes += part.length;
    if (bytes > DISCARD_BYTES) resolve();
  });
  raw.once('end', resolve).once('close', resolve).resume();
  await promise;
  stop();
}

/** 405 with the methods that there are, before a body is looked at. */
function refuseOtherMethods(app: FastifyInstance, parts: ApiParts, routes: readonly ApiRoute[]): void {
  const served = new Map<string, Set<string>>();
  for (const { declaration } of routes) {
    const path = routed(declaration.path).replace(/:\w+/g, ':p');
    const methods = served.get(path) ?? new Set();
    served.set(path, methods);
    methods.add(declaration.method);
    if (declaration.method === 'GET') methods.add('HEAD');
  }
  for (const [path, methods] of served) {
    const others = [...METHODS, 'HEAD', 'OPTIONS'].filter((method) => !methods.has(method));
    const refusing = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
      reply.header('allow', [...methods].sort().join(', '));
      return refuse(parts, request, reply, new ApiError('method_not_allowed', 'See the Allow header.'));
    };
    app.route({ method: others, url: path, exposeHeadRoute: false, onRequest: refusing, handler: refusing });
  }
}

/** Answers with the problem; an unforeseen one goes to the log with its cause. */
async function refuse(
  parts: ApiParts,
  request: FastifyRequest,
  reply: FastifyReply,
  thrown: unknown,
): Promise<FastifyReply> {
  const error = asApiError(thrown);
  if (error.status >= 500) {
    const cause = error.cause instanceof Error ? { error: error.cause } : {};
    const line = { requestId: request.id, method: request.method, ...cause };
    if (error.code === 'unknown') parts.log.error('a request to the API failed', line);
    else parts.log.warn('a request to the API could not be served', line);
  }
  await discardRest(request);
  if (!request.raw.complete) reply.header('connection', 'close');
  const retry = retryAfterOf(error);
  if (retry !== undefined) reply.header('retry-after', String(retry));
  let problem = problemOf(error, request.id);
  if (error.code === 'unauthorized') {
    const { about: _, ...rest } = problem;
    problem = rest;
    reply.header('www-authenticate', [...parts.challenge(request.raw, challengeOf(thrown))]);
  }
  return reply.code(error.status).type(PROBLEM_TYPE).send(JSON.stringify(problem));
}
