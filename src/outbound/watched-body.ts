/** A body that is looked at while it passes: bounds, digests and failures are seen before its reader sees the end. */
import { Readable } from 'node:stream';

/** What looks at it. */
export interface BodyWatch {
  /** Sees each chunk, and may give another one (an empty one is left out). What it throws ends the stream with it. */
  chunk?(chunk: Buffer): Buffer;
  /** The source has ended. What it throws is the stream's error, and its reader sees no end. */
  end?(): void;
  /** Makes the reader's error of the source's. */
  failed?(error: Error): Error;
  /** Lets go of a source of which nothing was read, instead of destroying it: it ends soon then. */
  leave?(): void;
  /** Once, when the source is done with, whatever happened. */
  closed?(): void;
}

/** The source's bytes, as fast as they are read. Whoever has the stream reads it to its end or destroys it. */
export function watchedBody(source: Readable, watch: BodyWatch): Readable {
  return new WatchedBody(source, watch);
}

class WatchedBody extends Readable {
  readonly #source: Readable;
  readonly #watch: BodyWatch;
  #began = false;

  constructor(source: Readable, watch: BodyWatch) {
    super({ highWaterMark: 64 * 1024 });
    this.#source = source;
    this.#watch = watch;
    source.pause();
    source.on('data', (chunk: Buffer) => {
      if (this.destroyed) return;
      try {
        const given = watch.chunk === undefined ? chunk : watch.chunk(chunk);
        if (given.length > 0 && !this.push(given)) source.pause();
      } catch (error) {
        this.destroy(error as Error);
      }
    });
    source.on('end', () => {
      if (this.destroyed) return;
      try {
        watch.end?.();
        this.push(null);
      } catch (error) {
        this.destroy(error as Error);
      }
    });
    source.on('error', (error) => this.destroy(watch.failed?.(error) ?? error));
    source.on('close', () => {
      if (!source.readableEnded) this.destroy(broken(watch));
    });
    // One that nobody reads yet may fail; its reader hears of it when it does read.
    this.on('error', () => {});
  }

  override _read(): void {
    this.#began = true;
    this.#source.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const { leave, closed } = this.#watch;
    if (error === null && !this.#began && leave !== undefined && !this.#source.closed) {
      leave();
    } else this.#source.destroy();
    closed?.();
    done(error);
  }
}

function broken(watch: BodyWatch): Error {
  const error = new Error('the body ended early');
  return watch.failed?.(error) ?? error;
}
