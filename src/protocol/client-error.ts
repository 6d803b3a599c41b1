/**
 * Answers to what never became a request: the raw bytes for a server's `clientError` and `connect` events, in the
 * same words as every other error of `/v2/`.
 */
import { STATUS_CODES } from 'node:http';
import { errorBody } from './error-body.ts';
import { NO_STORE } from './headers.ts';

function rawAnswer(status: number, code: string, message: string, more: readonly string[] = []): string {
  const body = errorBody(code, message);
  const lines = [`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`];
  const headers = ['Content-Type', 'application/json', 'Content-Length', String(Buffer.byteLength(body)), ...more];
  for (const list of [headers, NO_STORE])
    for (let i = 0; i < list.length; i += 2) lines.push(`${list[i]}: ${list[i + 1]}`);
  lines.push('Connection: close', '', body);
  return lines.join('\r\n');
}

const QUIET = new Set([
  'ECONNRESET',
  'EPIPE',
  'ECONNABORTED',
  'ETIMEDOUT',
  'HPE_INVALID_EOF_STATE',
  'HPE_CLOSED_CONNECTION',
]);
const LONGEST_LINE = 8192;

/**
 * What to write before the socket is destroyed; empty where nobody would read it or nothing may be said (a body cut
 * short). 414 for a request line beyond 8 KiB, 431 for headers beyond the bound, 408 for a request that took too long
 * to arrive, 400 for everything else.
 */
export function clientErrorAnswer(error: Error & { code?: string; rawPacket?: Buffer }): string {
  const code = error.code ?? '';
  if (QUIET.has(code)) return '';
  if (code === 'HPE_HEADER_OVERFLOW') {
    const packet = error.rawPacket;
    const line = packet?.indexOf(10) ?? 0;
    if (packet !== undefined && (line < 0 ? packet.length > LONGEST_LINE : line > LONGEST_LINE)) {
      return rawAnswer(414, 'UNSUPPORTED', 'The request target is longer than 8 KiB.');
    }
    return rawAnswer(431, 'UNSUPPORTED', 'The request headers are longer than 16 KiB in all.');
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return rawAnswer(408, 'UNAVAILABLE', 'The request headers did not arrive in time.');
  }
  if (code === 'HPE_INVALID_METHOD') return rawAnswer(400, 'UNSUPPORTED', 'The request method is not known.');
  if (code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') {
    return rawAnswer(413, 'SIZE_INVALID', 'The chunk extensions of the body are too long.');
  }
  return rawAnswer(400, 'UNSUPPORTED', 'The request is not valid HTTP.');
}

/** What to write to a CONNECT before its socket is destroyed. */
export function connectAnswer(): string {
  return rawAnswer(405, 'UNSUPPORTED', 'CONNECT is not served: this is a registry, not a proxy.', [
    'Allow',
    'GET, HEAD, OPTIONS',
  ]);
}
