/**
 * The one way out. Every request that Longshore makes to somebody else's server goes through a client made here, by a
 * policy that its configuration gave: which addresses, how long, how much. No proxy, no credentials and no trust come
 * from the environment. Redirects are followed here, hop by hop, each as strictly as the first; secrets do not travel
 * to another origin, and nobody is led from https to http. Errors are FaultError and name the other's origin only:
 * paths and queries may be secrets.
 */
import type { Readable } from 'node:stream';
import { Agent, request as undiciRequest } from 'undici';
import { after } from '../kit/clock.ts';
import { readBounded } from '../kit/read-bounded.ts';
import type { AddressPolicy } from './address-rules.ts';
import { AddressRefused, guardedConnector, type Resolve } from './connector.ts';
import { outboundFault } from './fault.ts';
import { watchedBody } from './watched-body.ts';

/** How long things may take, in milliseconds. */
export interface OutboundLimits {
  /** To connect, with TLS. 10 s. */
  readonly connect: number;
  /** From the request to the answer's headers. 30 s. */
  readonly headers: number;
  /** Without a byte of the body while somebody reads it. 30 s. */
  readonly stall: number;
  /** All of it: every hop, to the end of the body. 60 s. */
  readonly total: number;
}

/** What a client is made of. */
export interface OutboundOptions extends AddressPolicy {
  readonly limits?: Partial<OutboundLimits>;
  /** Connections to one origin at once. 16. */
  readonly connections?: number;
  /** Requests under way at once; beyond it they are refused (`full`). 256. */
  readonly concurrency?: number;
  /** PEM of authorities to trust instead of the usual ones. */
  readonly ca?: string;
  /** Looks names up; the system's resolver if absent. For tests. */
  readonly resolve?: Resolve;
}

/** A request. */
export interface OutboundRequest {
  readonly url: string | URL;
  /** GET if absent. Redirects are followed for GET and HEAD only; others get them as their answer. */
  readonly method?: string;
  /** Names in lower case. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | Readable;
  /** Whether redirects are followed. Default: yes. */
  readonly redirects?: boolean;
  readonly limits?: Partial<OutboundLimits>;
  readonly signal?: AbortSignal;
}

/** An answer. Its body must be read to the end, or closed. */
export interface OutboundAnswer {
  readonly status: number;
  /** Where it came from, after redirects. Never show its query. */
  readonly url: URL;
  /** A header's first value; undefined where there is none. Name in lower case. */
  header(name: string): string | undefined;
  /** All values of a header. */
  headers(name: string): readonly string[];
  readonly body: Readable;
  /** The whole body; a FaultError `corrupt` where it is longer than `limit` bytes. */
  bytes(limit: number): Promise<Buffer>;
  close(): void;
}

/** A client. */
export interface OutboundClient {
  /** FaultError: unavailable (also a refused address: `isRefusedAddress`), timeout, full, corrupt. Aborted: the signal's reason. */
  send(request: OutboundRequest): Promise<OutboundAnswer>;
  /** Breaks off what is under way and lets go of the connections. */
  close(): Promise<void>;
}

const LIMITS: OutboundLimits = { connect: 10_000, headers: 30_000, stall: 30_000, total: 60_000 };
const MOST_HOPS = 5;
const MOST_ORIGINS = 128;
const MOST_HEADER_BYTES = 32 * 1024;
const LONGEST_URL = 8 * 1024;
/** So much of an answer that nobody wants is read to keep its connection. */
const DUMPED = 16 * 1024;
const DUMP_MILLISECONDS = 1_000;
const SECRETS: ReadonlySet<string> = new Set(['authorization', 'cookie', 'proxy-authorization']);

/** Makes a client of a policy. */
export function outboundClient(options: OutboundOptions = {}): OutboundClient {
  const limits = { ...LIMITS, ...options.limits };
  const most = options.concurrency ?? 256;
  const agent = new Agent({
    connect: guardedConnector({
      policy: options,
      connectMilliseconds: limits.connect,
      ...(options.resolve === undefined ? {} : { resolve: options.resolve }),
      ...(options.ca === undefined ? {} : { ca: options.ca }),
    }),
    allowH2: false,
    pipelining: 1,
    connections: options.connections ?? 16,
    maxOrigins: MOST_ORIGINS,
    maxHeaderSize: MOST_HEADER_BYTES,
    keepAliveTimeout: 10_000,
    keepAliveMaxTimeout: 60_000,
  });
  let running = 0;

  async function send(request: OutboundRequest): Promise<OutboundAnswer> {
    request.signal?.throwIfAborted();
    const first = checkedUrl(request.url);
    if (running >= most) throw outboundFault('full', first, `has ${most} requests under way already`);
    running++;
    const time = { ...limits, ...request.limits };
    const over = new AbortController();
    const late = after(time.total, () =>
      over.abort(outboundFault('timeout', first, `did not finish within ${time.total / 1000} s`)),
    );
    const signal = request.signal === undefined ? over.signal : AbortSignal.any([request.signal, over.signal]);
    let ended = false;
    const end = (): void => {
      if (ended) return;
      ended = true;
      running--;
      late();
    };
    try {
      return await follow(request, first, time, signal, end);
    } catch (error) {
      end();
      throw error;
    }
  }

  async function follow(
    request: OutboundRequest,
    first: URL,
    time: OutboundLimits,
    signal: AbortSignal,
    end: () => void,
  ): Promise<OutboundAnswer> {
    const method = request.method ?? 'GET';
    const follows = request.redirects !== false && (method === 'GET' || method === 'HEAD');
    let headers: Record<string, string> = {
      'user-agent': 'longshore',
      'accept-encoding': 'identity',
      ...request.headers,
    };
    let url = first;
    for (let hop = 0; ; hop++) {
      const answer = await ask(url, method, headers, request.body, time, signal, end);
      const location = answer.header('location');
      if (!follows || !isRedirect(answer.status) || location === undefined) return answer.opened();
      answer.drop();
      if (hop === MOST_HOPS) throw outboundFault('unavailable', first, `redirects more than ${MOST_HOPS} times`);
      const next = redirectTarget(location, url);
      if (next.origin !== url.origin) {
        headers = Object.fromEntries(Object.entries(headers).filter(([name]) => !SECRETS.has(name.toLowerCase())));
      }
      url = next;
    }
  }

  async function ask(
    url: URL,
    method: string,
    headers: Record<string, string>,
    body: Uint8Array | Readable | undefined,
    time: OutboundLimits,
    signal: AbortSignal,
    end: () => void,
  ): Promise<Answer> {
    const failed = (error: Error): Error => faultOf(error, url, signal);
    const once = () =>
      undiciRequest(url, {
        dispatcher: agent,
        method: method as 'GET',
        headers,
        ...(body === undefined ? {} : { body }),
        headersTimeout: time.headers,
        bodyTimeout: time.stall,
        signal,
      });
    // The other side may close a kept connection just as it is used again: what changes nothing is asked once more.
    const asked = once().catch((error: Error) => {
      if (signal.aborted || (method !== 'GET' && method !== 'HEAD') || !isBroken(error)) throw error;
      return once();
    });
    const given = await asked.catch((error: Error) => {
      throw failed(error);
    });
    return new Answer(given.statusCode, url, given.headers, given.body, failed, end);
  }

  return { send, close: () => agent.destroy() };
}

type HeaderValues = Readonly<Record<string, string | string[] | undefined>>;
type Source = Readable & { dump(options: { limit: number }): Promise<unknown> };

class Answer {
  readonly status: number;
  readonly url: URL;
  readonly #headers: HeaderValues;
  readonly #source: Source;
  readonly #failed: (error: Error) => Error;
  readonly #end: () => void;

  constructor(
    status: number,
    url: URL,
    headers: HeaderValues,
    source: Source,
    failed: (error: Error) => Error,
    end: () => void,
  ) {
    this.status = status;
    this.url = url;
    this.#headers = headers;
    this.#source = source;
    this.#failed = failed;
    this.#end = end;
    source.on('error', () => {});
  }

  header(name: string): string | undefined {
    return this.headers(name)[0];
  }

  headers(name: string): readonly string[] {
    const value = this.#headers[name];
    return value === undefined ? [] : Array.isArray(value) ? value : [value];
  }

  /** Not wanted: its connection is kept where little is left of it. */
  drop(): void {
    const source = this.#source;
    const late = after(DUMP_MILLISECONDS, () => source.destroy());
    void source.dump({ limit: DUMPED }).then(late, late);
  }

  /** For the caller: nobody asked for an encoding, so one is a lie. */
  opened(): OutboundAnswer {
    const encoding = this.header('content-encoding');
    if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
      this.#source.destroy();
      throw outboundFault('corrupt', this.url, 'answered with an encoding that it was not asked for');
    }
    const body = watchedBody(this.#source, { failed: this.#failed, leave: () => this.drop(), closed: this.#end });
    const { url } = this;
    return {
      status: this.status,
      url,
      header: (name) => this.header(name),
      headers: (name) => this.headers(name),
      body,
      async bytes(limit) {
        const bytes = await readBounded(body, limit);
        if (bytes !== undefined) return bytes;
        body.destroy();
        throw outboundFault('corrupt', url, `answered with more than the ${limit} bytes that are taken`);
      },
      close: () => void body.destroy(),
    };
  }
}

function isBroken(error: Error): boolean {
  const { code } = error as { code?: unknown };
  return code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code === 'EPIPE';
}

function isRedirect(status: number): boolean {
  return status === 301 || status === 302 || status === 303 || status === 307 || status === 308;
}

/** A URL that may be asked, or a FaultError. */
function checkedUrl(given: string | URL): URL {
  const url = URL.canParse(String(given)) ? new URL(String(given)) : undefined;
  if (url === undefined || url.href.length > LONGEST_URL)
    throw outboundFault('unavailable', undefined, 'is not a URL that can be asked');
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw outboundFault('unavailable', undefined, `has the scheme ${url.protocol.slice(0, 20)} which is not asked`);
  }
  if (url.username !== '' || url.password !== '') {
    throw outboundFault('unavailable', url, 'has credentials in its URL, which are not taken');
  }
  url.hash = '';
  return url;
}

function redirectTarget(location: string, from: URL): URL {
  if (location.length > LONGEST_URL || !URL.canParse(location, from)) {
    throw outboundFault('unavailable', from, 'redirects to something that is not a URL');
  }
  const next = checkedUrl(new URL(location, from));
  if (from.protocol === 'https:' && next.protocol !== 'https:') {
    throw outboundFault('unavailable', from, 'redirects from https to http, which is not followed');
  }
  return next;
}

function faultOf(error: Error, url: URL, signal: AbortSignal): Error {
  if (signal.aborted) return signal.reason as Error;
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if (at instanceof AddressRefused) return refused(url);
  }
  if (error instanceof AggregateError && error.errors.some((one) => one instanceof AddressRefused)) return refused(url);
  const code = (error as { code?: unknown }).code;
  switch (code) {
    case 'UND_ERR_CONNECT_TIMEOUT':
      return outboundFault('timeout', url, 'could not be connected to in time', error);
    case 'UND_ERR_HEADERS_TIMEOUT':
      return outboundFault('timeout', url, 'did not answer in time', error);
    case 'UND_ERR_BODY_TIMEOUT':
      return outboundFault('timeout', url, 'sent nothing more in the middle of its answer', error);
    case 'UND_ERR_HEADERS_OVERFLOW':
      return outboundFault('corrupt', url, `answered with more than ${MOST_HEADER_BYTES} bytes of headers`, error);
    case 'UND_ERR_MAX_ORIGINS_REACHED':
      return outboundFault('full', url, 'cannot be asked: too many origins at once', error);
    default:
      return outboundFault('unavailable', url, `could not be asked (${textOf(code, error)})`, error);
  }
}

function refused(url: URL): Error {
  const why = 'is not at a public address, and the configuration does not open private ones for it';
  return outboundFault('unavailable', url, why, undefined, { refused: 'address' });
}

/** A failure's code, or what kind it is: messages may hold what was sent. */
function textOf(code: unknown, error: Error): string {
  return typeof code === 'string' && /^[A-Z0-9_]{1,64}$/.test(code) ? code : error.name;
}
