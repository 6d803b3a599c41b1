/** What the tests of this room drive: real servers on this machine, and clients that may reach them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type FaultCode, FaultError } from '../oci/error.ts';
import { type OutboundClient, type OutboundOptions, outboundClient } from './client.ts';

/** A server under test. */
export interface Served extends AsyncDisposable {
  readonly port: number;
  readonly origin: string;
  /** What was asked, as `METHOD path`, with what came in each. */
  readonly asked: IncomingMessage[];
}

/** Starts one on this machine. */
export async function serve(answer: RequestListener): Promise<Served> {
  const asked: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    asked.push(request);
    answer(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    port,
    origin: `http://127.0.0.1:${port}`,
    asked,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Lets a client reach it. */
export const OPEN: OutboundOptions = { allowPrivateAddresses: true };

/** A client for so long. */
export async function withClient<T>(
  options: OutboundOptions,
  work: (client: OutboundClient) => Promise<T>,
): Promise<T> {
  const client = outboundClient(options);
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

/** Asserts that it rejects with a FaultError of this code, and gives it. */
export async function fails(promise: Promise<unknown>, code: FaultCode, says?: RegExp): Promise<FaultError> {
  const error = await promise.then(
    () => assert.fail(`expected ${code}`),
    (error: unknown) => error,
  );
  assert.ok(error instanceof FaultError, String((error as Error).stack));
  assert.equal(error.code, code, error.message);
  if (says !== undefined) assert.match(error.message, says);
  return error;
}
