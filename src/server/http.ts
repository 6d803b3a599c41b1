/**
 * The listener. The raw target decides before anyone has decoded it: `/v2/` goes to the protocol's handler, a few
 * fixed paths to theirs, the rest to the web application (Fastify), which is not even loaded before it is asked for.
 * **Invariant**: what is not literally `/v2` never reaches the protocol, and no framework answers on `/v2/`.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Http2SecureServer } from 'node:http2';
import type { AddressInfo, BlockList, Socket } from 'node:net';
import { after, every } from '../kit/clock.ts';
import type { Log } from '../kit/log.ts';
import { pathOf, problem, type RawHandler } from './answer.ts';
import { addressList, isListed, plainAddress } from './forwarded.ts';
import type { TlsFiles, TlsLimits, TlsServer } from './tls.ts';

/** What the protocol gives the listener. */
export interface ProtocolFace {
  readonly handler: RawHandler;
  /** What is written before a connection whose request could not be parsed ends; empty: nothing. */
  readonly clientErrorAnswer: (error: Error & { code?: string; rawPacket?: Buffer }) => string;
  /** What is written to a CONNECT. */
  readonly connectAnswer: () => string;
}

/** Bounds of a listener. */
export interface ListenerLimits extends TlsLimits {
  readonly connections: number;
  readonly connectionsPerAddress: number;
  readonly headerCount: number;
}

/** What a listener is made of. */
export interface ListenerParts {
  readonly protocol?: ProtocolFace;
  /** By exact path. */
  readonly routes: ReadonlyMap<string, RawHandler>;
  /** Everything else; asked for when first needed. Absent: 404. */
  readonly application?: { readonly serves: (path: string) => boolean; readonly open: () => Promise<RawHandler> };
  readonly tls?: TlsFiles | undefined;
  readonly trustedProxies?: readonly string[];
  readonly limits: ListenerLimits;
  /** Called for every request that is not the protocol's. */
  readonly observe?: (request: IncomingMessage, response: ServerResponse) => void;
  readonly log: Log;
}

/** A listener. */
export interface Listener {
  readonly server: Server | Http2SecureServer;
  /** Resolves with the address in use; rejects where it cannot be had. */
  listen(address: { readonly host: string; readonly port: number }): Promise<AddressInfo>;
  /** Requests under way. */
  readonly underWay: number;
  /** Requests so far. */
  readonly requests: number;
  /** Open connections. */
  readonly connections: number;
  /** Takes up changed TLS files; whether there were any. */
  reload(): boolean;
  /** Takes no more connections, closes idle ones, waits for requests under way at most so long, then ends them. Called again: that much longer at most. True: all finished. */
  stop(milliseconds: number): Promise<boolean>;
}

/** The raw path: `/%76%32/x` is not ours. */
export function isProtocol(url: string | undefined): boolean {
  return url !== undefined && (url === '/v2' || url.startsWith('/v2/') || url.startsWith('/v2?'));
}

/** Makes a listener, not yet listening. Rejects where the TLS files cannot be used. */
export async function openListener(parts: ListenerParts): Promise<Listener> {
  const { protocol, limits, log } = parts;
  const underWay = new Set<ServerResponse>();
  let requests = 0;
  let stopping = false;
  let idle: (() => void) | undefined;
  let cutOff: (() => void) | undefined;
  let ending: Promise<boolean> | undefined;

  const dispatch = (request: IncomingMessage, response: ServerResponse): void => {
    underWay.add(response);
    requests++;
    response.once('close', () => {
      underWay.delete(response);
      if (underWay.size === 0) idle?.();
    });
    if (stopping) response.shouldKeepAlive = false;
    // A target that is no plain path is refused in the protocol's words, whoever it was meant for.
    const plain = request.url?.startsWith('/') === true;
    if (protocol !== undefined && (!plain || isProtocol(request.url))) protocol.handler(request, response);
    else other(request, response);
  };
  const other = (request: IncomingMessage, response: ServerResponse): void => {
    parts.observe?.(request, response);
    if (request.httpVersionMajor === 1 && hasTwoHosts(request)) {
      response.shouldKeepAlive = false;
      problem(request, response, 400, 'A request has exactly one Host.');
      return;
    }
    const path = pathOf(request);
    const route = parts.routes.get(path);
    if (route !== undefined) route(request, response);
    else if (parts.application?.serves(path) === true) applicationOf(parts.application, log)(request, response);
    else problem(request, response, 404, 'There is nothing here. The registry is under /v2/.');
  };

  // node:http2 and node:tls are a third of a plain start: only where they are wanted.
  const tls: TlsServer | undefined =
    parts.tls === undefined ? undefined : (await import('./tls.ts')).openTls(parts.tls, limits, log);
  const server: Server | Http2SecureServer =
    tls?.server ??
    createServer({
      requestTimeout: 0,
      headersTimeout: limits.headersSeconds * 1000,
      keepAliveTimeout: limits.keepAliveSeconds * 1000,
      connectionsCheckingInterval: Math.min(5_000, limits.headersSeconds * 500),
      maxHeaderSize: limits.headerBytes,
      // Two Hosts, none: the protocol's own answer, not Node's.
      requireHostHeader: false,
    });
  wire(server, parts, dispatch);
  const counted = boundConnections(server, limits, parts.trustedProxies ?? []);

  return {
    server,
    get underWay() {
      return underWay.size;
    },
    get requests() {
      return requests;
    },
    get connections() {
      return counted.open;
    },
    listen: ({ host, port }) =>
      new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen({ host, port, backlog: 4_096 }, () => {
          server.off('error', reject);
          server.on('error', (error: Error) => log.error('the listener failed', { error }));
          resolve(server.address() as AddressInfo);
        });
      }),
    reload: () => tls?.reload() ?? false,
    stop(milliseconds) {
      if (ending === undefined) ending = end(milliseconds);
      else after(milliseconds, () => cutOff?.());
      return ending;
    },
  };

  async function end(milliseconds: number): Promise<boolean> {
    stopping = true;
    // Whoever gets an answer from now on learns that the connection ends with it.
    for (const response of underWay) response.shouldKeepAlive = false;
    tls?.stopLooking();
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    tls?.closeSessions();
    const closeIdle = (): void => {
      if ('closeIdleConnections' in server) server.closeIdleConnections();
    };
    closeIdle();
    const stopClosing = every(100, closeIdle);
    const finished = await new Promise<boolean>((resolve) => {
      cutOff = () => resolve(false);
      idle = () => resolve(true);
      after(milliseconds, cutOff);
      if (underWay.size === 0) idle();
    });
    stopClosing();
    closeIdle();
    if (!finished) log.warn('transfers did not finish in time and were cut off', { requests: underWay.size });
    // What is left is idle, or has had its time.
    tls?.destroySessions();
    // An answer that has just ended may still be in the socket's buffer: its client closes, or gets a moment.
    const cut = after(finished ? 500 : 0, () => counted.destroyAll());
    await closed;
    cut();
    return finished;
  }
}

/** The events in which Node would otherwise answer in its own words. */
function wire(server: Server | Http2SecureServer, parts: ListenerParts, dispatch: RawHandler): void {
  const { protocol, limits } = parts;
  const listener = server as Server;
  listener.maxHeadersCount = limits.headerCount;
  listener.on('request', dispatch);
  // The protocol says 100 when it is about to read, and 417 itself.
  listener.on('checkContinue', (request, response) => {
    if (!isProtocol(request.url)) response.writeContinue();
    dispatch(request, response);
  });
  listener.on('checkExpectation', (request, response) => {
    if (protocol !== undefined && isProtocol(request.url)) dispatch(request, response);
    else problem(request, response, 417, 'This expectation is not met here.');
  });
  listener.on('connect', (_request, socket) => {
    socket.on('error', () => undefined);
    socket.end(protocol?.connectAnswer() ?? 'HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n\r\n', () =>
      socket.destroy(),
    );
  });
  listener.on('clientError', (error: Error & { code?: string; rawPacket?: Buffer }, socket) => {
    // An answer that has begun on this connection must not be followed by another's bytes.
    const busy = (socket as { _httpMessage?: { headersSent?: boolean } })._httpMessage?.headersSent === true;
    const text = busy || !socket.writable ? '' : (protocol?.clientErrorAnswer(error) ?? '');
    socket.on('error', () => undefined);
    // What was written of it still leaves: it may be the very answer to this error.
    if (busy) (socket as Socket).destroySoon();
    else if (text === '') socket.destroy();
    else socket.end(text, () => socket.destroy());
  });
}

/** Connections beyond the bounds are closed before anything of them is read. */
function boundConnections(
  server: Server | Http2SecureServer,
  limits: ListenerLimits,
  trusted: readonly string[],
): { readonly open: number; destroyAll(): void } {
  const proxies: BlockList = addressList(trusted);
  const byAddress = new Map<string, number>();
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    const address = plainAddress(socket.remoteAddress ?? '');
    const count = (byAddress.get(address) ?? 0) + 1;
    if (sockets.size >= limits.connections || (count > limits.connectionsPerAddress && !isListed(proxies, address))) {
      socket.destroy();
      return;
    }
    sockets.add(socket);
    byAddress.set(address, count);
    socket.once('close', () => {
      sockets.delete(socket);
      const left = (byAddress.get(address) ?? 1) - 1;
      if (left === 0) byAddress.delete(address);
      else byAddress.set(address, left);
    });
  });
  return {
    get open() {
      return sockets.size;
    },
    destroyAll: () => {
      for (const socket of sockets) socket.destroy();
    },
  };
}

const applications = new WeakMap<object, Promise<RawHandler>>();

/** The application's handler, opened once. */
function applicationOf(application: NonNullable<ListenerParts['application']>, log: Log): RawHandler {
  return (request, response) => {
    let opening = applications.get(application);
    if (opening === undefined) {
      opening = application.open();
      applications.set(application, opening);
      opening.catch(() => applications.delete(application));
    }
    opening.then(
      (handler) => handler(request, response),
      (error: Error) => {
        log.error('the web application could not be started', { error });
        problem(request, response, 500, 'Longshore failed in a way it did not foresee; its log has the cause.');
      },
    );
  };
}

function hasTwoHosts(request: IncomingMessage): boolean {
  let hosts = 0;
  for (let index = 0; index < request.rawHeaders.length; index += 2) {
    if (request.rawHeaders[index]!.toLowerCase() === 'host') hosts++;
  }
  return hosts > 1;
}
