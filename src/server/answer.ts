/** Small whole answers of the paths that are neither `/v2/` nor a framework's. */
import type { IncomingMessage, ServerResponse } from 'node:http';

/** A plain node:http handler; HTTP/2's compatible objects come through it too. */
export type RawHandler = (request: IncomingMessage, response: ServerResponse) => void;

/** Sends a whole body (HEAD: only its headers) and drops what is left of the request's. */
export function answer(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  type: string,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(status, {
    'Content-Type': type,
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    'Content-Security-Policy': "default-src 'none'; sandbox",
    ...headers,
  });
  response.end(request.method === 'HEAD' ? undefined : body);
  request.resume();
}

/** An RFC 9457 problem. */
export function problem(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  title: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  answer(request, response, status, 'application/problem+json', JSON.stringify({ title, status }), headers);
}

/** GET and HEAD pass; for the rest a 405 went out and it is false. */
export function onlyReads(request: IncomingMessage, response: ServerResponse): boolean {
  if (request.method === 'GET' || request.method === 'HEAD') return true;
  problem(request, response, 405, 'This path only answers GET and HEAD.', { Allow: 'GET, HEAD' });
  return false;
}

/** The path without its query. */
export function pathOf(request: IncomingMessage): string {
  const url = request.url ?? '';
  const end = url.indexOf('?');
  return end < 0 ? url : url.slice(0, end);
}
