/**
 * The pump: from a reader at positions into the socket, with one buffer of the shared budget being written and one
 * being read ahead (hot-path: on a par with sendfile). A buffer is held only while it is read into or written from.
 * After an abort Node may never call a write's callback, and the system may still read that memory: such a buffer is
 * dropped, not given back.
 */
import { pipeline } from 'node:stream/promises';
import type { Borrowed, RandomReader } from '../kit/buffers.ts';
import type { ByteRange } from '../oci/names.ts';
import type { BlobContent } from '../registry/registry.ts';
import type { Exchange } from './exchange.ts';
import type { HeaderList } from './headers.ts';
import type { Watched } from './rate-watch.ts';

/** Answers with the content's range and closes it, always. Never rejects: what fails once the head is out breaks the connection. */
export async function sendBlob(
  exchange: Exchange,
  status: number,
  headers: HeaderList,
  content: BlobContent,
): Promise<void> {
  try {
    const { bytes, range } = content;
    if (bytes !== undefined || range.end === range.start) {
      exchange.send(status, headers, bytes ?? new Uint8Array());
    } else if (content.openRandom !== undefined) {
      await sendRandom(exchange, status, headers, await content.openRandom(), range);
    } else await sendStream(exchange, status, headers, content);
  } catch (error) {
    exchange.fail(error);
  } finally {
    content.close();
  }
}

async function sendRandom(
  exchange: Exchange,
  status: number,
  headers: HeaderList,
  reader: RandomReader,
  range: ByteRange,
): Promise<void> {
  const pump = new Pump(exchange, reader, range);
  try {
    // The client may have gone while the file was opened.
    if (exchange.gone) {
      exchange.send(status, headers);
      return;
    }
    await pump.run(() => exchange.begin(status, headers));
    if (pump.sent === range.end - range.start) exchange.end(pump.sent);
    else exchange.abort(pump.sent);
  } catch (error) {
    if (exchange.answered) exchange.abort(pump.sent, error as Error);
    else throw error;
  } finally {
    pump.close();
    await reader.close();
  }
}

async function sendStream(
  exchange: Exchange,
  status: number,
  headers: HeaderList,
  content: BlobContent,
): Promise<void> {
  const { response } = exchange;
  const source = content.open();
  if (exchange.gone) {
    source.destroy();
    exchange.send(status, headers);
    return;
  }
  let sent = 0;
  const socket = response.socket;
  const watched: Watched = {
    moved: () => (response.writableNeedDrain ? sent - (socket?.writableLength ?? 0) : undefined),
    tooSlow: () => void response.destroy(),
  };
  source.on('data', (chunk: Buffer) => {
    sent += chunk.length;
  });
  source.pause();
  exchange.begin(status, headers);
  exchange.room.downloads.add(watched);
  try {
    await pipeline(source, response, { end: false });
    if (sent === content.range.end - content.range.start) exchange.end(sent);
    else exchange.abort(sent, new Error('the blob ended before its length'));
  } catch (error) {
    exchange.abort(sent, error as Error);
  } finally {
    exchange.room.downloads.remove(watched);
  }
}

/** One download under way. */
class Pump implements Watched {
  /** Bytes of which the system has taken all. */
  sent = 0;
  readonly #exchange: Exchange;
  readonly #reader: RandomReader;
  readonly #range: ByteRange;
  readonly #abort = new AbortController();
  #writing: { readonly borrowed: Borrowed; readonly length: number; readonly done: () => void } | undefined;

  constructor(exchange: Exchange, reader: RandomReader, range: ByteRange) {
    this.#exchange = exchange;
    this.#reader = reader;
    this.#range = range;
    exchange.response.once('close', this.#onClose);
    exchange.room.downloads.add(this);
  }

  /** Moves everything, or stops where the client goes. `begin` writes the head: only when the first bytes are here. */
  async run(begin: () => void): Promise<void> {
    const transfer = this.#exchange.room.parts.buffers.begin();
    const { start, end } = this.#range;
    let position = start;
    let written: Promise<void> | undefined;
    try {
      while (position < end && !this.#abort.signal.aborted) {
        const borrowed = await this.#borrow(transfer);
        if (borrowed === undefined) break;
        const length = await this.#fill(borrowed, position, Math.min(borrowed.bytes.length, end - position));
        if (position === start && !this.#abort.signal.aborted) begin();
        // The buffer before this one; the first is waited for alone, so that who never reads holds one buffer only.
        await written;
        if (this.#abort.signal.aborted) {
          borrowed.giveBack();
          break;
        }
        written = this.#write(borrowed, length);
        if (position === start) await written;
        position += length;
      }
      await written;
    } finally {
      this.#dropWriting();
      transfer.end();
    }
  }

  async #borrow(transfer: ReturnType<Exchange['room']['parts']['buffers']['begin']>): Promise<Borrowed | undefined> {
    try {
      return await transfer.borrow(this.#abort.signal);
    } catch (error) {
      if (this.#abort.signal.aborted) return undefined;
      throw error;
    }
  }

  async #fill(borrowed: Borrowed, position: number, most: number): Promise<number> {
    let length: number;
    try {
      const into = most === borrowed.bytes.length ? borrowed.bytes : borrowed.bytes.subarray(0, most);
      length = await this.#reader.read(into, position);
    } catch (error) {
      borrowed.giveBack();
      throw error;
    }
    if (length > 0) return length;
    borrowed.giveBack();
    throw new Error('the blob ended before its length');
  }

  #write(borrowed: Borrowed, length: number): Promise<void> {
    return new Promise((resolve) => {
      const writing = { borrowed, length, done: resolve };
      this.#writing = writing;
      const bytes = length === borrowed.bytes.length ? borrowed.bytes : borrowed.bytes.subarray(0, length);
      this.#exchange.response.write(bytes, (error) => {
        if (this.#writing !== writing) return;
        this.#writing = undefined;
        if (error) borrowed.drop();
        else {
          this.sent += length;
          borrowed.giveBack();
        }
        resolve();
      });
    });
  }

  readonly #onClose = (): void => {
    this.#abort.abort(new Error('the client has gone'));
    this.#dropWriting();
  };

  #dropWriting(): void {
    const writing = this.#writing;
    if (writing === undefined) return;
    this.#writing = undefined;
    writing.borrowed.drop();
    writing.done();
  }

  moved(): number | undefined {
    if (this.#writing === undefined) return undefined;
    // What of the write under way the system has taken; without that knowledge a write counts as a whole.
    const socket = this.#exchange.request.socket as { _handle?: { writeQueueSize?: number } | null } | null;
    const queued = Math.min(socket?._handle?.writeQueueSize ?? 0, this.#writing.length);
    return this.sent + this.#writing.length - queued;
  }

  tooSlow(): void {
    this.#exchange.response.destroy();
  }

  /** Ends the watch. */
  close(): void {
    this.#exchange.response.off('close', this.#onClose);
    this.#exchange.room.downloads.remove(this);
  }
}
