/**
 * A TCP proxy on 127.0.0.1 that can be told to behave badly, for tests of what happens when a server is away: it can
 * refuse connections, accept and say nothing, freeze those that are open, or reset them.
 */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { freePort } from './port.ts';

/**
 * `pass`: bytes flow. `refuse`: nobody listens, and open connections are reset. `hang`: connections are accepted and
 * open ones kept, and no byte moves. `reset`: connections are accepted and reset at once, open ones too.
 */
export type ProxyMode = 'pass' | 'refuse' | 'hang' | 'reset';

/** The proxy. */
export interface TcpProxy {
  readonly port: number;
  /** `127.0.0.1:PORT` */
  readonly host: string;
  /** How many connections were accepted since the start. */
  accepted(): number;
  /** Behaves like this from now on. Connections that hung stay as they are: only new ones pass. */
  set(mode: ProxyMode): Promise<void>;
  /** Resets the open connections and goes on. */
  cut(): void;
  close(): Promise<void>;
}

/** Resets a connection. One that is being shut down already cannot be: its handle would never close. */
function reset(socket: Socket): void {
  if (socket.writableEnded || socket.destroyed) socket.destroy();
  else socket.resetAndDestroy();
}

/** Starts a proxy in front of a port of 127.0.0.1. */
export async function startProxy(target: number): Promise<TcpProxy> {
  const clients = new Map<Socket, Socket | undefined>();
  let mode: ProxyMode = 'pass';
  let accepted = 0;

  const server = createServer((client) => {
    accepted++;
    client.on('error', () => undefined);
    if (mode === 'reset') {
      reset(client);
      return;
    }
    clients.set(client, undefined);
    client.on('close', () => {
      clients.get(client)?.destroy();
      clients.delete(client);
    });
    if (mode === 'hang') {
      client.pause();
      return;
    }
    const upstream = connect(target, '127.0.0.1');
    clients.set(client, upstream);
    upstream.on('error', () => reset(client));
    upstream.on('close', () => client.destroy());
    client.pipe(upstream);
    upstream.pipe(client);
  });

  const listen = async (port: number): Promise<void> => {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  };
  // While nobody listens on it no connection may take it.
  const port = await freePort();
  await listen(port);
  const cut = (): void => {
    for (const client of clients.keys()) reset(client);
  };

  return {
    port,
    host: `127.0.0.1:${port}`,
    accepted: () => accepted,
    cut,
    async set(next) {
      mode = next;
      if (next === 'refuse') {
        if (server.listening) server.close();
        cut();
        return;
      }
      if (!server.listening) await listen(port);
      if (next === 'reset') cut();
      if (next === 'hang') {
        for (const [client, upstream] of clients) {
          if (upstream !== undefined) client.unpipe(upstream);
          upstream?.unpipe(client);
          client.pause();
          upstream?.pause();
        }
      }
    },
    async close() {
      const closed = server.listening ? once(server, 'close') : undefined;
      server.close();
      cut();
      await closed;
    },
  };
}
