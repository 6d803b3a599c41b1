/** An HTTP proxy in front of a test server that breaks in chosen ways: what a storage driver has to live with. */
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** What happens to a request. */
export type Breakage =
  | 'pass'
  /** Nothing is ever answered. */
  | 'hang'
  /** The connection is reset before anything is forwarded. */
  | 'reset'
  /** The request has its effect, the answer never comes: the connection is reset. */
  | 'lost-answer'
  /** The answer's headers and half of its body come, then the connection is reset. */
  | 'cut-body'
  /** The answer's headers and half of its body come, then nothing. */
  | 'stall-body'
  /** The answer has this status and a body of no use. */
  | { readonly status: number; readonly body?: string };

/** A running proxy. */
export interface BrokenProxy {
  /** `http://127.0.0.1:…` */
  readonly endpoint: string;
  /** Decides for each request; `pass` for all at first. */
  rule: (request: IncomingMessage) => Breakage;
  /** `METHOD /path?query` of every request so far. */
  readonly seen: string[];
  stop(): Promise<void>;
}

/** Starts a proxy to `http://host:port`. The Host header goes on as it came, so that signatures hold. */
export async function brokenProxy(target: string): Promise<BrokenProxy> {
  const { hostname, port } = new URL(target);
  const agent = new Agent({ keepAlive: true });
  const sockets = new Set<Socket>();
  const server = createServer();
  const handle = (incoming: IncomingMessage, answer: ServerResponse): void => {
    proxy.seen.push(`${incoming.method} ${incoming.url}`);
    const breakage = proxy.rule(incoming);
    answer.on('error', () => undefined);
    incoming.on('error', () => undefined);
    if (breakage === 'hang') {
      incoming.resume();
      return;
    }
    if (breakage === 'reset') {
      incoming.socket.resetAndDestroy();
      return;
    }
    if (typeof breakage === 'object') {
      incoming.resume();
      incoming.on('end', () => answer.writeHead(breakage.status).end(breakage.body ?? ''));
      return;
    }
    const { method, headers, url } = incoming;
    const forwarded = request({ hostname, port, method, path: url, headers, agent }, (reply) => {
      if (breakage === 'lost-answer') {
        reply.resume();
        reply.on('end', () => incoming.socket.resetAndDestroy());
        return;
      }
      answer.writeHead(reply.statusCode ?? 500, reply.rawHeaders);
      if (breakage === 'pass') {
        reply.pipe(answer);
        return;
      }
      let left = Math.floor(Number(reply.headers['content-length'] ?? 0) / 2);
      reply.on('data', (chunk: Buffer) => {
        if (left <= 0) return;
        const part = chunk.subarray(0, left);
        left -= part.length;
        answer.write(part, () => {
          if (left === 0 && breakage === 'cut-body') incoming.socket.resetAndDestroy();
        });
      });
    });
    forwarded.on('error', () => incoming.socket.destroy());
    forwarded.on('continue', () => answer.writeContinue());
    incoming.pipe(forwarded);
  };
  server.on('request', handle);
  // The target is who decides whether a body is wanted.
  server.on('checkContinue', handle);
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const proxy: BrokenProxy = {
    endpoint: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    rule: () => 'pass',
    seen: [],
    async stop() {
      agent.destroy();
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
  return proxy;
}
