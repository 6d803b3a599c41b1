/**
 * The headers that matter, taken from the raw list in one pass, and the framing rules that Node lets slip: two Hosts,
 * a Transfer-Encoding that is not just `chunked`, a target that is not a plain path (threats row 1). Node's own
 * `request.headers` is never built on the way.
 */
import type { Request } from './parts.ts';

/** One request's headers, as sent. Repeated list headers are joined; of the others the first counts. */
export interface RequestHeaders {
  host: string | undefined;
  hosts: number;
  authorization: string | undefined;
  /** Bytes announced; undefined where none were. */
  contentLength: number | undefined;
  transferEncoding: string | undefined;
  range: string | undefined;
  ifRange: string | undefined;
  ifMatch: string | undefined;
  ifNoneMatch: string | undefined;
  contentRange: string | undefined;
  contentType: string | undefined;
  contentEncoding: string | undefined;
  expect: string | undefined;
  origin: string | undefined;
  userAgent: string | undefined;
  traceparent: string | undefined;
}

/** Reads the raw list of names and values. */
export function readHeaders(raw: readonly string[]): RequestHeaders {
  const headers: RequestHeaders = {
    host: undefined,
    hosts: 0,
    authorization: undefined,
    contentLength: undefined,
    transferEncoding: undefined,
    range: undefined,
    ifRange: undefined,
    ifMatch: undefined,
    ifNoneMatch: undefined,
    contentRange: undefined,
    contentType: undefined,
    contentEncoding: undefined,
    expect: undefined,
    origin: undefined,
    userAgent: undefined,
    traceparent: undefined,
  };
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i]!;
    switch (name.length) {
      case 4:
        if (is(name, 'Host', 'host')) {
          headers.hosts++;
          headers.host ??= raw[i + 1]!;
        }
        break;
      case 5:
        if (is(name, 'Range', 'range')) headers.range = joined(headers.range, raw[i + 1]!);
        break;
      case 6:
        if (is(name, 'Expect', 'expect')) headers.expect = joined(headers.expect, raw[i + 1]!);
        else if (is(name, 'Origin', 'origin')) headers.origin ??= raw[i + 1]!;
        break;
      case 8:
        if (is(name, 'If-Match', 'if-match')) headers.ifMatch = joined(headers.ifMatch, raw[i + 1]!);
        else if (is(name, 'If-Range', 'if-range')) headers.ifRange = joined(headers.ifRange, raw[i + 1]!);
        break;
      case 10:
        if (is(name, 'User-Agent', 'user-agent')) headers.userAgent ??= raw[i + 1]!;
        else if (name === ':authority') headers.host ??= raw[i + 1]!;
        break;
      case 11:
        if (is(name, 'Traceparent', 'traceparent')) headers.traceparent ??= raw[i + 1]!;
        break;
      case 12:
        if (is(name, 'Content-Type', 'content-type')) headers.contentType ??= raw[i + 1]!;
        break;
      case 13:
        if (is(name, 'Authorization', 'authorization')) headers.authorization ??= raw[i + 1]!;
        else if (is(name, 'Content-Range', 'content-range'))
          headers.contentRange = joined(headers.contentRange, raw[i + 1]!);
        else if (is(name, 'If-None-Match', 'if-none-match'))
          headers.ifNoneMatch = joined(headers.ifNoneMatch, raw[i + 1]!);
        break;
      case 14:
        // The parser refuses what is not digits and what stands twice.
        if (is(name, 'Content-Length', 'content-length')) headers.contentLength = Number(raw[i + 1]!);
        break;
      case 16:
        if (is(name, 'Content-Encoding', 'content-encoding'))
          headers.contentEncoding = joined(headers.contentEncoding, raw[i + 1]!);
        break;
      case 17:
        if (is(name, 'Transfer-Encoding', 'transfer-encoding'))
          headers.transferEncoding = joined(headers.transferEncoding, raw[i + 1]!);
        break;
    }
  }
  return headers;
}

function is(name: string, usual: string, lower: string): boolean {
  return name === usual || name === lower || name.toLowerCase() === lower;
}

function joined(before: string | undefined, value: string): string {
  return before === undefined ? value : `${before}, ${value}`;
}

/** What is wrong with the request's frame, or undefined. After such an answer the connection is closed. */
export function framingProblem(request: Request, headers: RequestHeaders): string | undefined {
  const target = request.url ?? '';
  if (target.charCodeAt(0) !== 47) return 'The request target must be a path: absolute URLs are not served.';
  for (let i = 1; i < target.length; i++) {
    const c = target.charCodeAt(i);
    if (c <= 32 || c >= 127 || c === 35) {
      return 'The request target has a character that must be percent-encoded.';
    }
  }
  if (request.httpVersionMajor >= 2) return undefined;
  if (headers.hosts !== 1 && (headers.hosts > 1 || request.httpVersionMinor === 1)) {
    return headers.hosts === 0 ? 'The request has no Host header.' : 'The request has more than one Host header.';
  }
  const encoding = headers.transferEncoding;
  if (encoding !== undefined) {
    if (headers.contentLength !== undefined) return 'The request has both Content-Length and Transfer-Encoding.';
    if (encoding.toLowerCase() !== 'chunked') return 'The only Transfer-Encoding that is served is "chunked".';
    if (request.httpVersionMinor !== 1) return 'Transfer-Encoding needs HTTP/1.1.';
  }
  return undefined;
}
