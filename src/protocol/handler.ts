/**
 * `/v2/` over any Registry: a plain handler for Node's HTTP servers. The order of answers is written here, once:
 * frame, route, method, readiness, credentials, right, and then what the route does. Give the same function to the
 * events `request`, `checkContinue` and `checkExpectation`, so that no framework and no default answers in its own
 * words.
 */
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { requestId } from '../kit/id.ts';
import { RegistryError } from '../oci/error.ts';
import type { RepositoryName } from '../oci/names.ts';
import type { Principal } from '../registry/call.ts';
import { deleteBlob, readBlob } from './blob.ts';
import { answerBase, listRepositories } from './catalog.ts';
import { corsRule, preflightHeaders } from './cors.ts';
import { errorBody } from './error-body.ts';
import { Exchange, type Room } from './exchange.ts';
import { ALWAYS, jsonHeaders } from './headers.ts';
import { deleteManifest, readManifest, unknownTag } from './manifest.ts';
import { requestMeasures } from './measures.ts';
import { DEFAULT_LIMITS, type ProtocolParts, type Request, type Response } from './parts.ts';
import { pushManifest } from './push-manifest.ts';
import { bad } from './query.ts';
import { RateWatch } from './rate-watch.ts';
import { listReferrers } from './referrer.ts';
import { RequestCall } from './request-call.ts';
import { framingProblem, readHeaders } from './request-headers.ts';
import { ALLOW, parseRoute, type Route } from './route.ts';
import { listTags } from './tag.ts';
import { appendUpload, cancelUpload, commitUpload, startUpload, unknownUpload, uploadStatus } from './upload.ts';

/** What a server calls for each request, and on `checkContinue` and `checkExpectation`. Never throws. */
export type ProtocolHandler = (request: Request | Http2ServerRequest, response: Response | Http2ServerResponse) => void;

/** Makes the handler. Every request that reaches it is one of `/v2/` (`isProtocolTarget`), or has no valid target. */
export function protocolHandler(parts: ProtocolParts): ProtocolHandler {
  const limits = { ...DEFAULT_LIMITS, ...parts.limits };
  const room: Room = {
    parts,
    limits,
    count: requestMeasures(parts.metrics),
    uploads: new RateWatch(limits.minimumRate),
    downloads: new RateWatch(limits.minimumRate),
    cors: parts.cors === undefined || parts.cors.origins.length === 0 ? undefined : corsRule(parts.cors.origins),
  };
  return (request, response) => {
    // A stream of HTTP/2 that is reset reports that on the request; nobody needs to hear it twice.
    if (request.httpVersionMajor !== 1) request.on('error', () => {});
    const headers = readHeaders(request.rawHeaders);
    const exchange = new Exchange(room, request as Request, response as Response, headers, requestId());
    try {
      receive(exchange);
    } catch (error) {
      exchange.fail(error);
    }
  };
}

/** Everything up to the credentials. Throws what is to be answered. */
function receive(exchange: Exchange): void {
  const { room, request, headers, method, target } = exchange;
  const { parts, limits } = room;
  const problem = framingProblem(request, headers);
  if (problem !== undefined) {
    refuseFrame(exchange, 400, problem);
    return;
  }
  if (target.length > limits.targetBytes) {
    refuseFrame(exchange, 414, `The request target is longer than ${limits.targetBytes} bytes.`);
    return;
  }
  if (room.cors !== undefined && headers.origin !== undefined) exchange.extra = room.cors(headers.origin);
  const route = parseRoute(target);
  if (route === undefined) throw bad('There is nothing at this path.', 404);
  exchange.route = route;
  if (method === 'OPTIONS') {
    const preflight = exchange.extra === undefined || exchange.extra[0] === 'Vary' ? [] : preflightHeaders(route.kind);
    exchange.send(204, ['Allow', ALLOW[route.kind], 'Cache-Control', 'no-store', ...ALWAYS, ...preflight]);
    return;
  }
  if (!allows(route, method)) throw bad(`The method is not served here: use ${ALLOW[route.kind]}.`, 405);
  const { expect } = headers;
  if (expect !== undefined && expect.toLowerCase() !== '100-continue') {
    throw bad('The only expectation that is served is "100-continue".', 417);
  }
  if (parts.state() !== 'ready') {
    throw new RegistryError('UNAVAILABLE', 'The server is starting or stopping. Try again in a moment.', {
      retryAfterSeconds: 2,
    });
  }
  const peer = parts.peerOf(request);
  exchange.peer = peer;
  parts.admit?.(peer);
  const principal = parts.authenticator.authenticate(headers, peer);
  if (principal instanceof Promise) {
    principal.then((one) => serve(exchange, route, one)).catch((error: unknown) => exchange.fail(error));
  } else serve(exchange, route, principal);
}

function refuseFrame(exchange: Exchange, status: number, message: string): void {
  const body = errorBody('UNSUPPORTED', message);
  exchange.sendAndClose(status, jsonHeaders(Buffer.byteLength(body)), body);
}

function allows(route: Route, method: string): boolean {
  switch (method) {
    case 'GET':
    case 'HEAD':
      return route.kind !== 'uploads';
    case 'PUT':
      return route.kind === 'manifest' || route.kind === 'upload';
    case 'DELETE':
      return route.kind === 'manifest' || route.kind === 'upload' || route.kind === 'blob';
    case 'PATCH':
      return route.kind === 'upload';
    case 'POST':
      return route.kind === 'uploads';
    default:
      return false;
  }
}

/** The caller is known: does what the route says, and answers whatever comes of it. */
function serve(exchange: Exchange, route: Route, principal: Principal): void {
  const { request, response, method, requestId: id, headers, peer } = exchange;
  exchange.call = new RequestCall({
    principal,
    requestId: id,
    response,
    peer: peer!,
    method,
    userAgent: headers.userAgent,
  });
  const { trace } = exchange.room.parts;
  if (trace !== undefined) {
    const repository = route.repository ?? '';
    const { traceparent } = headers;
    exchange.endTrace = trace({ method, route: route.kind, repository, requestId: id, traceparent });
  }
  // A read of a manifest by a plain path is the hot one: the registry checks the right itself, in the same step.
  const work =
    route.kind === 'manifest' && route.reference !== undefined && isRead(method) && !exchange.hasQuery
      ? readManifest(exchange, route.repository, route.reference)
      : dispatch(exchange, route);
  work.then(
    () => {
      if (!exchange.answered) exchange.fail(new Error(`nothing answered ${request.method} of ${route.kind}`));
    },
    (error: unknown) => exchange.fail(error),
  );
}

function isRead(method: string): boolean {
  return method === 'GET' || method === 'HEAD';
}

/** The repository that the request is about: another where `ns` names a registry that one of ours caches. */
function placeOf(exchange: Exchange, repository: RepositoryName): RepositoryName {
  const { namespace } = exchange.room.parts;
  if (namespace === undefined || !isRead(exchange.method) || !exchange.hasQuery) return repository;
  const { ns } = exchange.query;
  if (ns === undefined || ns === '') return repository;
  const place = namespace(ns, repository);
  if (place === undefined) throw new RegistryError('NAME_UNKNOWN', 'No registry of that name is cached here.');
  exchange.extra = [...(exchange.extra ?? []), 'OCI-Namespace', encodeURI(ns)];
  return place;
}

async function dispatch(exchange: Exchange, route: Route): Promise<void> {
  const { method } = exchange;
  switch (route.kind) {
    case 'base':
      return answerBase(exchange);
    case 'catalog':
      await exchange.authorize('registry.catalog', undefined);
      return listRepositories(exchange);
    case 'uploads':
      await exchange.authorize('repository.push', route.repository);
      return startUpload(exchange, route.repository);
    case 'upload': {
      const { repository, id } = route;
      await exchange.authorize('repository.push', repository);
      if (id === undefined) throw unknownUpload();
      if (method === 'PATCH') return appendUpload(exchange, repository, id);
      if (method === 'PUT') return commitUpload(exchange, repository, id);
      return method === 'DELETE' ? cancelUpload(exchange, repository, id) : uploadStatus(exchange, repository, id);
    }
    case 'manifest':
      return dispatchManifest(exchange, route);
    case 'blob': {
      if (isRead(method)) {
        const repository = await place(exchange, route.repository);
        return readBlob(exchange, repository, route.digest);
      }
      await exchange.authorize('repository.delete', route.repository);
      return deleteBlob(exchange, route.repository, route.digest);
    }
    case 'tags':
      return listTags(exchange, await place(exchange, route.repository));
    case 'referrers':
      return listReferrers(exchange, await place(exchange, route.repository), route.digest);
  }
}

async function dispatchManifest(exchange: Exchange, route: Route & { kind: 'manifest' }): Promise<void> {
  const { method } = exchange;
  const { reference } = route;
  if (method === 'PUT') {
    await exchange.authorize('repository.push', route.repository);
    return pushManifest(exchange, route.repository, reference);
  }
  if (method === 'DELETE') {
    await exchange.authorize('repository.delete', route.repository);
    if (reference === undefined) throw unknownTag();
    return deleteManifest(exchange, route.repository, reference);
  }
  const repository = await place(exchange, route.repository, reference === undefined);
  if (reference === undefined) throw unknownTag();
  return readManifest(exchange, repository, reference);
}

/**
 * The place of a read, its right checked where something of the request is judged before the registry is asked: a
 * query, or what `early` says. Without such the registry's own check comes first anyway.
 */
async function place(exchange: Exchange, named: RepositoryName, early = false): Promise<RepositoryName> {
  if (!exchange.hasQuery && !early) return named;
  let repository = named;
  let problem: unknown;
  try {
    repository = placeOf(exchange, named);
  } catch (error) {
    problem = error; // A malformed query is told only to those who may pull.
  }
  await exchange.authorize('repository.pull', repository);
  if (problem !== undefined) throw problem;
  void exchange.query;
  return repository;
}
