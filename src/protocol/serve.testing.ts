/** What the tests of this room drive: a real server over a registry in memory, and clients that send exactly what they are told. */
import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { Authenticator } from '../access/access.ts';
import type { Borrowed, TransferBuffers } from '../kit/buffers.ts';
import { systemClock } from '../kit/clock.ts';
import { type Log, noMetrics, silentLog } from '../kit/log.ts';
import { RegistryError } from '../oci/error.ts';
import type { Principal } from '../registry/call.ts';
import { memoryRegistry } from '../registry/memory.ts';
import type { Registry } from '../registry/registry.ts';
import { clientErrorAnswer } from './client-error.ts';
import { protocolHandler } from './handler.ts';
import type { AccessLine, ProtocolParts } from './parts.ts';

/** `Basic alice`, `Bearer alice`: that user. `… bad`: refused. None, or `Basic Og==`: anonymous. */
export const testAuthenticator: Authenticator = {
  authenticate({ authorization }): Principal {
    const name = authorization?.split(' ')[1];
    if (name === undefined || name === 'Og==') return { kind: 'anonymous', id: 'anonymous', name: '' };
    if (name === 'bad') throw new RegistryError('UNAUTHORIZED', 'The credentials are not valid.');
    return { kind: 'user', id: `user:${name}`, name };
  },
};

/** A budget that counts what is lent, so that a test sees what was never given back. */
export class CountingBuffers implements TransferBuffers {
  lentBytes = 0;
  transfers = 0;
  dropped = 0;
  most = 0;
  readonly #size: number;

  constructor(size = 512 * 1024) {
    this.#size = size;
  }

  begin() {
    this.transfers++;
    return {
      borrow: async (): Promise<Borrowed> => {
        let out = true;
        this.lentBytes += this.#size;
        this.most = Math.max(this.most, this.lentBytes);
        const back = () => {
          if (!out) throw new Error('a buffer came back twice');
          out = false;
          this.lentBytes -= this.#size;
        };
        return {
          bytes: new Uint8Array(this.#size),
          giveBack: back,
          drop: () => {
            this.dropped++;
            back();
          },
        };
      },
      end: () => {
        this.transfers--;
      },
    };
  }
}

/** An answer, whole. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
  readonly text: string;
  /** The code of the error in the body; undefined where there is none. */
  readonly code: string | undefined;
}

/** A server under test. */
export interface Served extends AsyncDisposable {
  readonly port: number;
  readonly registry: Registry;
  readonly buffers: CountingBuffers;
  readonly lines: AccessLine[];
  readonly logged: string[];
  send(
    method: string,
    path: string,
    more?: { headers?: Record<string, string | string[]>; body?: string | Uint8Array },
  ): Promise<Answer>;
  /** A connection that one writes to by hand. */
  socket(): Promise<Socket>;
  /** Sends the text, and gives everything that comes until the connection ends. */
  raw(text: string | Buffer): Promise<string>;
}

/** Starts it. Everybody may push unless the parts say otherwise. */
export async function serve(parts: Partial<ProtocolParts> = {}, bufferSize?: number): Promise<Served> {
  const registry = parts.registry ?? memoryRegistry({ sparse: 'all' });
  const lines: AccessLine[] = [];
  const logged: string[] = [];
  const note = (message: string, fields?: object) =>
    void logged.push(`${message} ${JSON.stringify(fields, errorText)}`);
  const log: Log = { ...silentLog, warn: note, error: note };
  const buffers = new CountingBuffers(bufferSize);
  const handler = protocolHandler({
    registry,
    authenticator: testAuthenticator,
    mayPushAnonymously: () => true,
    peerOf: (request) => ({ address: request.socket.remoteAddress ?? '', host: 'registry.test', scheme: 'http' }),
    realm: () => 'http://registry.test/token',
    service: 'registry.test',
    buffers,
    log,
    accessLog: (line) => void lines.push(line),
    metrics: noMetrics,
    clock: systemClock,
    state: () => 'ready',
    ...parts,
  });
  const server = createServer({ requireHostHeader: false, requestTimeout: 0 }, handler);
  server.on('checkContinue', handler);
  server.on('checkExpectation', handler);
  server.on('clientError', (error: Error, socket) => {
    if (socket.writable) socket.end(clientErrorAnswer(error));
    else socket.destroy();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const socket = async () => {
    const one = connect(port, '127.0.0.1');
    one.on('error', () => {});
    await once(one, 'connect');
    return one;
  };
  return {
    port,
    registry,
    buffers,
    lines,
    logged,
    send: (method, path, more = {}) => send(port, method, path, more),
    socket,
    async raw(text) {
      const one = await socket();
      const chunks: Buffer[] = [];
      one.on('data', (chunk: Buffer) => void chunks.push(chunk));
      one.write(text);
      await once(one, 'close');
      return Buffer.concat(chunks).toString('latin1');
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function errorText(_key: string, value: unknown): unknown {
  return value instanceof Error ? value.message : value;
}

async function send(
  port: number,
  method: string,
  path: string,
  { headers = {}, body }: { headers?: Record<string, string | string[]>; body?: string | Uint8Array },
): Promise<Answer> {
  const request = httpRequest({
    port,
    host: '127.0.0.1',
    method,
    path,
    agent: false,
    headers: { ...(body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }), ...headers },
  });
  request.on('error', () => {});
  request.end(body);
  const [response] = await once(request, 'response');
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const bytes = Buffer.concat(chunks);
  const text = bytes.toString('utf8');
  return {
    status: response.statusCode,
    headers: response.headers,
    rawHeaders: response.rawHeaders,
    body: bytes,
    text,
    code: text.startsWith('{"errors"') ? JSON.parse(text).errors[0].code : undefined,
  };
}
