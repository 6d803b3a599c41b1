/**
 * A load balancer of our own: each request goes to a random instance, on connections that both sides keep, and is never
 * sent twice. An instance is left out while its `/readyz` does not answer 200, and from the moment that it refuses a
 * connection. What an instance breaks off is broken off for the client as well; where none answers it is a 502.
 */
import { once } from 'node:events';
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { statusOf } from '../../support/server.ts';

/** A running balancer. */
export interface Balancer {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** `127.0.0.1:PORT` */
  readonly host: string;
  /** How many requests each instance got, in the order of the ports. */
  readonly served: readonly number[];
  /** How many requests got a 502 or were broken off because of an instance. */
  readonly broken: () => number;
  close(): Promise<void>;
}

const PROBE_MILLISECONDS = 300;

/** Starts one in front of ports of 127.0.0.1. `choose` gives a number from 0 to below. */
export async function startBalancer(
  ports: readonly number[],
  choose: (below: number) => number = (below) => Math.floor(Math.random() * below),
): Promise<Balancer> {
  const agent = new Agent({ keepAlive: true, maxSockets: 256 });
  const up = ports.map(() => true);
  const served = ports.map(() => 0);
  const sockets = new Set<Socket>();
  let broken = 0;

  const handle = (incoming: IncomingMessage, answer: ServerResponse): void => {
    const ready = ports.flatMap((_, at) => (up[at] === true ? [at] : []));
    const at = ready[choose(ready.length)];
    incoming.on('error', () => undefined);
    answer.on('error', () => undefined);
    const fail = (): void => {
      broken++;
      if (answer.headersSent) {
        incoming.socket.destroy();
        return;
      }
      answer.writeHead(502, { 'content-length': 0, connection: 'close' }).end();
    };
    if (at === undefined) {
      incoming.resume();
      fail();
      return;
    }
    served[at]! += 1;
    const { method, url, headers } = incoming;
    const known = headers['x-forwarded-for'];
    const from = incoming.socket.remoteAddress ?? '';
    const forwarded = request({
      agent,
      host: '127.0.0.1',
      port: ports[at],
      method,
      path: url,
      headers: { ...headers, 'x-forwarded-for': known === undefined ? from : `${String(known)}, ${from}` },
    });
    forwarded.on('response', (reply) => {
      answer.writeHead(reply.statusCode ?? 502, reply.rawHeaders);
      reply.on('error', () => incoming.socket.destroy());
      reply.on('aborted', () => {
        broken++;
        incoming.socket.destroy();
      });
      reply.pipe(answer);
    });
    forwarded.on('continue', () => answer.writeContinue());
    forwarded.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') up[at] = false;
      if (answer.writableEnded || incoming.socket.destroyed) return;
      fail();
    });
    answer.on('close', () => {
      if (!answer.writableFinished) forwarded.destroy();
    });
    incoming.pipe(forwarded);
  };

  const server = createServer({ keepAliveTimeout: 30_000, requestTimeout: 0 });
  server.on('request', handle);
  server.on('checkContinue', handle);
  server.on('connection', (socket: Socket) => {
    socket.unref();
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  // A test that fails before it closes this must not keep its process.
  server.unref();
  // One after the other for each instance: an answer that is late never overtakes a later one.
  let probing = true;
  const probe = async (at: number): Promise<void> => {
    while (probing) {
      await sleep(PROBE_MILLISECONDS, undefined, { ref: false });
      if (probing) up[at] = (await statusOf(`http://127.0.0.1:${ports[at]}/readyz`)) === 200;
    }
  };
  const probes = ports.map((_, at) => probe(at));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: `http://${host}`,
    host,
    served,
    broken: () => broken,
    async close() {
      probing = false;
      await Promise.all(probes);
      agent.destroy();
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
