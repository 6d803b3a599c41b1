/** A listener on a free port of 127.0.0.1 with a protocol that says what it was asked, for tests. */
import { request } from 'node:http';
import { connect } from 'node:net';
import { LIMITS } from '../config/limits.ts';
import { silentLog } from '../kit/log.ts';
import type { RawHandler } from './answer.ts';
import { type Listener, type ListenerLimits, type ListenerParts, openListener } from './http.ts';

/** The limits as they stand. */
export const DEFAULT_LIMITS: ListenerLimits = {
  connections: LIMITS.connections.value,
  connectionsPerAddress: LIMITS.connectionsPerAddress.value,
  handshakeSeconds: LIMITS.handshakeSeconds.value,
  headerBytes: LIMITS.headerBytes.value,
  headerCount: LIMITS.headerCount.value,
  headersSeconds: LIMITS.headersSeconds.value,
  keepAliveSeconds: LIMITS.keepAliveSeconds.value,
  http2Streams: LIMITS.http2Streams.value,
  http2StreamWindowBytes: LIMITS.http2StreamWindowBytes.value,
  http2SessionWindowBytes: LIMITS.http2SessionWindowBytes.value,
};

/** Answers 200 with the raw target and what came as a body. */
export const echo: RawHandler = (asked, response) => {
  if (asked.headers.expect === '100-continue') response.writeContinue();
  let size = 0;
  asked.on('data', (chunk: Buffer) => {
    size += chunk.length;
  });
  asked.on('end', () => response.end(`protocol ${asked.method} ${asked.url} ${size}`));
};

/** Opens and starts one. */
export async function started(
  parts: Partial<ListenerParts> = {},
): Promise<{ readonly listener: Listener; readonly port: number }> {
  const listener = await openListener({
    protocol: {
      handler: echo,
      clientErrorAnswer: (error) => `HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n${error.code}`,
      connectAnswer: () => 'HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n\r\nconnect',
    },
    routes: new Map(),
    limits: DEFAULT_LIMITS,
    log: silentLog,
    ...parts,
  });
  const { port } = await listener.listen({ host: '127.0.0.1', port: 0 });
  return { listener, port };
}

/** One request without keep-alive. */
export function ask(
  port: number,
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<{ status: number; body: string; headers: Record<string, unknown> }> {
  return new Promise((resolve, reject) => {
    const { method = 'GET', headers = {}, body } = options;
    const asked = request({ host: '127.0.0.1', port, path, method, headers, agent: false }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(chunks).toString(), headers: answer.headers }),
      );
      answer.on('error', reject);
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

/** Sends bytes and gives everything that comes back until the other side closes. */
export function raw(port: number, text: string): Promise<string> {
  return new Promise((resolve) => {
    let got = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(text));
    socket.on('data', (chunk) => {
      got += chunk.toString();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(got));
  });
}
