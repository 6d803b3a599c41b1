/** What the tests of this room drive: an upstream that says whatever it is told to, and a reader of it. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { systemClock } from '../kit/clock.ts';
import { type OutboundClient, outboundClient } from '../outbound/client.ts';
import { upstreamRegistry } from './registry.ts';
import type { UpstreamSettings } from './settings.ts';

/** A client that may reach this machine. */
export function openClient(): OutboundClient {
  return outboundClient({ allowPrivateAddresses: true, limits: { headers: 2_000, stall: 2_000, total: 10_000 } });
}

/** A server of one's own. */
export interface Lying extends AsyncDisposable {
  readonly host: string;
  readonly origin: string;
  readonly asked: IncomingMessage[];
}

/** Starts it. */
export async function lying(answer: RequestListener): Promise<Lying> {
  const asked: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    asked.push(request);
    answer(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    host: `127.0.0.1:${port}`,
    origin: `http://127.0.0.1:${port}`,
    asked,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** The registry behind that address, with a client of its own that ends with it. */
export function reading(settings: UpstreamSettings) {
  const client = openClient();
  return {
    registry: upstreamRegistry(settings, { client, clock: systemClock }),
    [Symbol.asyncDispose]: () => client.close(),
  };
}
