/**
 * One request and its answer: who asks, what of the body is read, and the one place that writes a head. Answers are
 * sent once; whatever comes after that (a handler that fails later) breaks the connection instead.
 */
import { failpoint } from '../kit/failpoint.ts';
import { asRegistryError, RegistryError } from '../oci/error.ts';
import type { Digest, RepositoryName } from '../oci/names.ts';
import type { Action } from '../registry/call.ts';
import { discard, RequestBody } from './body.ts';
import { type ChallengeError, challengeHeaders, scopeOf } from './challenge.ts';
import type { Cors } from './cors.ts';
import { registryErrorBody } from './error-body.ts';
import { type HeaderList, jsonHeaders, NO_STORE } from './headers.ts';
import type { CountRequest } from './measures.ts';
import {
  type ProtocolLimits,
  type ProtocolParts,
  type ProtocolPeer,
  type Request,
  type Response,
  streamOf,
} from './parts.ts';
import { parseQuery, type Query } from './query.ts';
import type { RateWatch, Watched } from './rate-watch.ts';
import { bounded, type RequestCall } from './request-call.ts';
import type { RequestHeaders } from './request-headers.ts';
import { ALLOW, type Route } from './route.ts';

/** What all exchanges of a handler share. */
export interface Room {
  readonly parts: ProtocolParts;
  readonly limits: ProtocolLimits;
  readonly count: CountRequest;
  readonly uploads: RateWatch;
  readonly downloads: RateWatch;
  readonly cors: Cors | undefined;
}

const LONGEST_PATH = 512;
/** The largest body that is written together with its head, in bytes. */
const ONE_WRITE = 16 * 1024;
/** The client went before an answer began. Only the log sees it. */
const CLIENT_GONE = 499;

/** State of one request. */
export class Exchange implements Watched {
  readonly room: Room;
  readonly request: Request;
  readonly response: Response;
  readonly headers: RequestHeaders;
  readonly method: string;
  readonly target: string;
  readonly requestId: string;
  /** Whether the client said that a body follows. */
  readonly hasBody: boolean;
  route: Route | undefined;
  peer: ProtocolPeer | undefined;
  /** Undefined until credentials were looked at. */
  call: RequestCall | undefined;
  /** Headers that every answer of this request carries besides its own. */
  extra: HeaderList | undefined;
  endTrace: ((status: number) => void) | undefined;
  #answered = false;
  #finished = false;
  #status = 0;
  #error: string | undefined;
  #body: RequestBody | undefined;
  #continueSent = false;
  #query: Query | undefined;
  readonly #started: number;

  constructor(room: Room, request: Request, response: Response, headers: RequestHeaders, id: string) {
    this.room = room;
    this.request = request;
    this.response = response;
    this.headers = headers;
    this.method = request.method ?? '';
    this.target = request.url ?? '';
    this.requestId = id;
    this.#started = room.parts.clock.monotonic();
    const stream = streamOf(request);
    this.hasBody =
      stream === undefined
        ? headers.transferEncoding !== undefined || (headers.contentLength ?? 0) > 0
        : !stream.endAfterHeaders && headers.contentLength !== 0;
  }

  /** Whether an answer was begun. */
  get answered(): boolean {
    return this.#answered;
  }

  /** Whether the connection, or the stream of HTTP/2, is gone. */
  get gone(): boolean {
    const stream = streamOf(this.request);
    if (stream !== undefined) return stream.destroyed || stream.closed;
    return this.response.destroyed || this.request.socket.destroyed;
  }

  /** The query, parsed when first asked for. Throws a RegistryError with status 400. */
  get query(): Query {
    this.#query ??= parseQuery(this.target);
    return this.#query;
  }

  /** Whether the target has a query at all. */
  get hasQuery(): boolean {
    return this.target.includes('?');
  }

  /** Asks for the right alone, before anything else is looked at. */
  async authorize(action: Action, repository: RepositoryName | undefined): Promise<void> {
    await this.room.parts.authorize?.(this.call!, action, repository);
  }

  /** The body, for the registry to read. The 100 goes out at its first read; slowness is watched from then on. */
  get body(): RequestBody {
    if (this.#body === undefined) {
      const body = new RequestBody(this.request, this.headers.contentLength, () => {
        this.#continue();
        this.room.uploads.add(this);
      });
      body.once('close', () => this.room.uploads.remove(this));
      this.#body = body;
    }
    return this.#body;
  }

  moved(): number | undefined {
    return this.#body?.waiting === true ? this.#body.received : undefined;
  }

  tooSlow(): void {
    if (this.#answered) {
      this.response.destroy();
      return;
    }
    const error = new RegistryError(
      'UNAVAILABLE',
      'The body came too slowly. Ask for the upload, then go on from there.',
      {
        status: 408,
      },
    );
    this.#error = error.code;
    this.#answered = true;
    const text = registryErrorBody(error, this.requestId);
    this.#writeHead(408, this.#closing(jsonHeaders(Buffer.byteLength(text))));
    this.response.end(text, () => this.request.destroy());
    this.#finish(408, text.length);
  }

  #continue(): void {
    if (this.#continueSent || this.#answered || !this.#expectsContinue()) return;
    this.#continueSent = true;
    this.response.writeContinue();
  }

  #expectsContinue(): boolean {
    return this.headers.expect !== undefined && this.request.httpVersion !== '1.0';
  }

  /** Answers, with all of the body; for HEAD the body stays here. Does nothing where an answer was begun. */
  send(status: number, headers: HeaderList, body?: string | Uint8Array): void {
    if (this.#answered) return;
    this.#answered = true;
    if (this.gone) {
      this.#finish(CLIENT_GONE, 0);
      return;
    }
    if (status < 300 && this.method !== 'GET' && this.method !== 'HEAD') failpoint('answer.before');
    const list = this.extra === undefined ? headers : [...headers, ...this.extra];
    const payload = this.method === 'HEAD' ? undefined : body;
    if (this.hasBody && !this.#bodyTaken()) this.#sendEarly(status, list, payload);
    else {
      this.#writeHead(status, list);
      if (payload instanceof Uint8Array && payload.length <= ONE_WRITE && this.request.httpVersionMajor === 1) {
        // Node joins a latin1 string to the head and writes once; a buffer costs a second piece and a gathered write.
        this.response.end(Buffer.prototype.latin1Slice.call(payload, 0, payload.length), 'latin1');
      } else this.response.end(payload);
    }
    if (status < 300 && this.method !== 'GET' && this.method !== 'HEAD') failpoint('answer.after');
    this.#finish(status, payload === undefined ? 0 : payload.length);
  }

  /** Answers without waiting for what the client still sends, and close the connection. For broken frames. */
  sendAndClose(status: number, headers: HeaderList, body: string): void {
    this.send(status, this.#closing(headers), body);
  }

  /** Writes the head of an answer whose body follows by other means; whoever writes it calls `end` or `abort`. */
  begin(status: number, headers: HeaderList): void {
    this.#answered = true;
    let list = this.extra === undefined ? headers : [...headers, ...this.extra];
    if (this.hasBody && !this.#bodyTaken()) {
      if (!this.#fewLeft()) list = this.#closing(list);
      this.request.resume();
    }
    this.#status = status;
    this.#writeHead(status, list);
  }

  /** The body that `begin` announced is complete: `bytes` were written. */
  end(bytes: number): void {
    this.response.end();
    this.#finish(this.#status, bytes);
  }

  /** The body that `begin` announced cannot be completed: the client must see that, so the connection is broken. */
  abort(bytes: number, cause?: Error): void {
    if (cause !== undefined && !this.gone) {
      this.#error = 'UNKNOWN';
      this.room.parts.log.error('an answer broke off', { requestId: this.requestId, path: this.#path(), error: cause });
    }
    this.response.destroy();
    this.#finish(this.#status, bytes);
  }

  /** Whether all of the request's body was received, so that nothing has to be thrown away. */
  #bodyTaken(): boolean {
    if (!this.request.complete) return false;
    this.#body?.destroy(); // What its reader left there must not hold up the requests that follow.
    this.request.resume();
    return true;
  }

  /** Whether what is left of the body is known to be little, and already on its way. */
  #fewLeft(): boolean {
    if (this.#expectsContinue() && !this.#continueSent) return false;
    const length = this.headers.contentLength;
    return length !== undefined && length - (this.#body?.received ?? 0) <= this.room.limits.keptAlive;
  }

  /** An answer before the end of the body: a client that is still sending must be able to read it (edge case 28). */
  #sendEarly(status: number, list: HeaderList, payload: string | Uint8Array | undefined): void {
    const { request, response } = this;
    const { limits } = this.room;
    this.#body?.destroy();
    const stream = streamOf(request);
    if (stream !== undefined) {
      this.#writeHead(status, list);
      response.end(payload, () => stream.close(0)); // NO_ERROR: the rest of the body is not wanted.
      return;
    }
    if (this.#fewLeft() && !list.includes('Connection')) {
      this.#writeHead(status, list);
      request.resume();
      response.end(payload);
      return;
    }
    this.#writeHead(status, this.#closing(list));
    if (payload === undefined || payload.length === 0) response.flushHeaders();
    else response.write(payload);
    discard(request, { bytes: limits.discarded, milliseconds: limits.discardMilliseconds }, () => {
      response.end(() => response.destroy());
    });
  }

  #closing(list: HeaderList): HeaderList {
    if (this.request.httpVersionMajor !== 1 || list.includes('Connection')) return list;
    return [...list, 'Connection', 'close'];
  }

  #writeHead(status: number, list: HeaderList): void {
    if (this.request.httpVersionMajor === 1) {
      this.response.writeHead(status, list as string[]);
      return;
    }
    // HTTP/2 takes a repeated header as a list.
    const grouped: Record<string, string | string[]> = {};
    for (let i = 0; i < list.length; i += 2) {
      const before = grouped[list[i]!];
      grouped[list[i]!] = before === undefined ? list[i + 1]! : [before, list[i + 1]!].flat();
    }
    this.response.writeHead(status, grouped);
  }

  /**
   * Answers with the error in the words of the specification; once an answer was begun, breaks the connection.
   * `headers`: those of the answer besides what every error has.
   */
  fail(thrown: unknown, headers: HeaderList = []): void {
    const error = asRegistryError(thrown);
    if (this.#answered) {
      if (!this.#finished) this.abort(0, error);
      return;
    }
    this.#error = error.code;
    if (!this.gone) this.#logCause(error);
    const body = Buffer.from(registryErrorBody(error, this.requestId));
    const list = jsonHeaders(body.length);
    list.push(...headers);
    if (error.status === 401) list.push(...this.#challenge(error));
    if (error.status === 405 && this.route !== undefined) list.push('Allow', ALLOW[this.route.kind]);
    if (error.status === 429 || error.status === 503) {
      list.push('Retry-After', String(Math.max(1, Math.ceil(error.retryAfterSeconds ?? 1))));
    }
    this.send(error.status, list, body);
  }

  #logCause(error: RegistryError): void {
    if (error.status < 500) return;
    const cause = error.cause instanceof Error ? error.cause : error;
    const line = error.code === 'UNKNOWN' ? this.room.parts.log.error : this.room.parts.log.warn;
    line('a request failed', { requestId: this.requestId, method: this.method, path: this.#path(), error: cause });
  }

  #challenge(thrown: RegistryError): string[] {
    const { parts } = this.room;
    return challengeHeaders({
      realm: this.peer === undefined ? undefined : parts.realm(this.peer),
      service: parts.service,
      scope: this.route === undefined ? undefined : scopeOf(this.route, this.method, this.target),
      error: this.#challengeError(thrown.detail),
    });
  }

  /** What is wrong with the token: as whoever refused it says, else by where it was refused. */
  #challengeError(detail: unknown): ChallengeError | undefined {
    const said = typeof detail === 'object' && detail !== null && 'error' in detail ? detail.error : undefined;
    if (said === 'invalid_token' || said === 'insufficient_scope') return said;
    if (this.headers.authorization?.slice(0, 7).toLowerCase() !== 'bearer ') return undefined;
    return this.call === undefined ? 'invalid_token' : 'insufficient_scope';
  }

  /** A success without a body. */
  sendEmpty(status: number, headers: HeaderList): void {
    this.send(status, status === 204 ? [...headers, ...NO_STORE] : [...headers, 'Content-Length', '0', ...NO_STORE]);
  }

  /** A 201 for what now has this path and digest. */
  sendCreated(path: string, digest: Digest, headers: HeaderList = []): void {
    this.sendEmpty(201, ['Location', path, 'Docker-Content-Digest', digest, ...headers]);
  }

  #path(): string {
    return bounded(this.target, LONGEST_PATH);
  }

  /** Counts, and writes the line. Small answers come here right after `end`, without a listener. */
  #finish(status: number, bytes: number): void {
    if (this.#finished) return;
    this.#finished = true;
    const { parts, count } = this.room;
    const milliseconds = parts.clock.monotonic() - this.#started;
    count(this.method, this.route?.kind ?? 'none', status, milliseconds / 1000);
    this.endTrace?.(status);
    parts.accessLog?.({
      requestId: this.requestId,
      method: this.method,
      path: this.#path(),
      status,
      bytes,
      milliseconds,
      user: this.call?.principal.name ?? '',
      address: this.peer?.address ?? '',
      userAgent: bounded(this.headers.userAgent ?? ''),
      ...(this.#error === undefined ? {} : { error: this.#error }),
    });
  }
}
