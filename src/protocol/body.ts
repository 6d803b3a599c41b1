/**
 * A request's body as the registry reads it. It stands between the socket and whoever reads, for four reasons: the
 * 100 goes out at the first read and not before (edge case 27); what came is counted; a reader that destroys its
 * source does not take the connection, and with it the answer, along; and a body cut short is an error, never an end.
 */
import { Readable } from 'node:stream';
import { after } from '../kit/clock.ts';
import { handOver } from '../kit/free.ts';
import { type Request, streamOf } from './parts.ts';

/** How much is kept between the socket and a reader. */
const HIGH_WATER_MARK = 128 * 1024;

/** One body. Reading begins lazily; `begin` is called right before the first byte is asked for. */
export class RequestBody extends Readable {
  /** Bytes that came so far. */
  received = 0;
  #begun = false;
  #ended = false;
  #waiting = false;
  readonly #request: Request;
  readonly #expected: number | undefined;
  readonly #begin: () => void;

  /** `expected`: bytes announced, where they were. */
  constructor(request: Request, expected: number | undefined, begin: () => void) {
    super({ highWaterMark: HIGH_WATER_MARK });
    this.#request = request;
    this.#expected = expected;
    this.#begin = begin;
    // Node copies what it gives here out of what it read. Of HTTP/2 it gives parts of that itself, and may still look.
    if (streamOf(request) === undefined) handOver(this);
    // A broken body may have no reader any more; the error then is nobody's.
    this.on('error', () => {});
  }

  /** Whether the client is the one who is waited for. */
  get waiting(): boolean {
    return this.#waiting && !this.#ended && !this.destroyed;
  }

  override _read(): void {
    const request = this.#request;
    if (!this.#begun) {
      this.#begun = true;
      if (request.destroyed && !request.readableEnded) {
        this.destroy(brokenOff());
        return;
      }
      this.#begin();
      request.on('data', this.#onData);
      request.on('end', this.#onEnd);
      request.on('close', this.#onClose);
      request.on('error', this.#onError);
    }
    this.#waiting = true;
    request.resume();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    const request = this.#request;
    if (this.#begun) {
      request.off('data', this.#onData);
      request.off('end', this.#onEnd);
      request.off('close', this.#onClose);
      if (!this.#ended) request.pause();
    }
    callback(error);
  }

  readonly #onData = (chunk: Buffer): void => {
    this.received += chunk.length;
    if (!this.push(chunk)) {
      this.#waiting = false;
      this.#request.pause();
    }
  };

  readonly #onEnd = (): void => {
    this.#ended = true;
    // Node also ends the body of an HTTP/2 stream that its client reset without an error.
    const stream = streamOf(this.#request);
    const whole = stream === undefined ? this.#request.complete : !stream.closed && !stream.destroyed;
    if (whole && (this.#expected === undefined || this.#expected === this.received)) this.push(null);
    else this.destroy(brokenOff());
  };

  readonly #onClose = (): void => {
    if (!this.#ended) this.destroy(brokenOff());
  };

  readonly #onError = (error: Error): void => {
    this.destroy(error);
  };
}

function brokenOff(): Error {
  return Object.assign(new Error('the request body broke off'), { code: 'ABORTED_BODY' });
}

/**
 * All bytes of a body, or undefined as soon as more than `limit` came: reading stops there. Rejects where it breaks off.
 */
export function readWhole(body: RequestBody, limit: number): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    body.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= limit) {
        chunks.push(chunk);
        return;
      }
      body.pause();
      body.destroy();
      resolve(undefined);
    });
    body.on('end', () => resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, size)));
    body.on('error', reject);
  });
}

/** Throws away what still comes, at most `bytes` for `milliseconds`, then calls `done` once. */
export function discard(
  request: Request,
  { bytes, milliseconds }: { bytes: number; milliseconds: number },
  done: () => void,
): void {
  let left = bytes;
  const finish = (): void => {
    stop();
    request.off('data', onData);
    request.off('end', finish);
    request.off('close', finish);
    request.pause();
    done();
  };
  const onData = (chunk: Buffer): void => {
    left -= chunk.length;
    if (left < 0) finish();
  };
  const stop = after(milliseconds, finish);
  request.on('error', () => {});
  if (request.destroyed || request.readableEnded) {
    finish();
    return;
  }
  request.on('data', onData);
  request.on('end', finish);
  request.on('close', finish);
  request.resume();
}
