/**
 * Bodies of objects read straight from the connection into one buffer that is used again and again. Node's own HTTP
 * client makes a new buffer for every 64 KiB, and the SDK's streams go on top of that: together most of what a large
 * pull costs. This knows GET with a Content-Length and nothing else; whatever is different (another status, no length,
 * a connection that broke before the head) is left to the SDK, which tries again and knows what errors mean.
 */
import { connect, type Socket, type TcpNetConnectOpts } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { after } from '../../kit/clock.ts';
import { CONNECT_MILLISECONDS } from '../objects/faults.ts';
import type { OpenedBody } from '../objects/store.ts';

/** How much is read at once. */
const BUFFER = 256 * 1024;
const HEAD_BYTES = 16 * 1024;
/** Connections that are kept for the next body, and for how long. Stores end theirs after five seconds at the least. */
const KEPT = 32;
const IDLE_MILLISECONDS = 3_000;
const HEAD_END = Buffer.from('\r\n\r\n');

/** Opens bodies at one server. */
export interface Lines {
  /** The body at a signed address; undefined where the SDK has to find out. Never rejects. The signal counts until it resolves. */
  open(
    address: URL,
    range: { start: number; end: number } | undefined,
    signal: AbortSignal,
  ): Promise<OpenedBody | undefined>;
  /** Ends the connections that are idle. */
  close(): void;
}

interface Head {
  readonly length: number;
  readonly size: number;
  readonly kept: boolean;
}

/** `ca`: PEM of the authorities that may sign the server's certificate. */
export function lines(ca: string | undefined): Lines {
  const idle: Line[] = [];
  let closed = false;
  const give = (line: Line): void => {
    if (closed || idle.length >= KEPT) line.destroy();
    else {
      idle.push(line);
      line.rest(() => {
        const at = idle.indexOf(line);
        if (at >= 0) idle.splice(at, 1);
      });
    }
  };
  return {
    async open(address, range, signal) {
      let line = idle.pop();
      if (line === undefined || !line.wake()) line = new Line(address, ca);
      const aborted = (): void => line.destroy();
      signal.addEventListener('abort', aborted, { once: true });
      try {
        if (signal.aborted) throw signal.reason;
        const head = headIn(await line.ask(requestOf(address, range)), range);
        if (head === undefined) throw new Error('for the SDK');
        return bodyOf(line, head, give);
      } catch {
        line.destroy();
        return undefined;
      } finally {
        signal.removeEventListener('abort', aborted);
      }
    },
    close() {
      closed = true;
      for (const line of idle.splice(0)) line.destroy();
    },
  };
}

function requestOf({ host, pathname, search }: URL, range: { start: number; end: number } | undefined): string {
  const asked = range === undefined ? '' : `range: bytes=${range.start}-${range.end - 1}\r\n`;
  return `GET ${pathname}${search} HTTP/1.1\r\nhost: ${host}\r\n${asked}accept-encoding: identity\r\n\r\n`;
}

function headIn(text: string, range: { start: number } | undefined): Head | undefined {
  const fields = new Map<string, string>();
  for (const line of text.split('\r\n').slice(1)) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    // Said twice: let the SDK make of it what it wants.
    if (colon > 0 && fields.has(name) && /^(content|transfer)-/.test(name)) return undefined;
    if (colon > 0) fields.set(name, line.slice(colon + 1).trim());
  }
  const field = (name: string): string | undefined => fields.get(name);
  const status = /^HTTP\/1\.1 (\d{3})/.exec(text)?.[1];
  const length = field('content-length');
  if (status !== (range === undefined ? '200' : '206') || length === undefined || !/^\d{1,15}$/.test(length))
    return undefined;
  if (field('transfer-encoding') !== undefined || field('content-encoding') !== undefined) return undefined;
  const kept = field('connection')?.toLowerCase() !== 'close';
  if (range === undefined) return { length: Number(length), size: Number(length), kept };
  const [, start, size] = /^bytes (\d{1,15})-\d+\/(\d{1,15})$/.exec(field('content-range') ?? '') ?? [];
  if (size === undefined || Number(start) !== range.start) return undefined;
  return { length: Number(length), size: Number(size), kept };
}

function bodyOf(line: Line, { length, size, kept }: Head, give: (line: Line) => void): OpenedBody {
  let left = length;
  let open = true;
  const finish = (again: boolean): void => {
    if (!open) return;
    open = false;
    if (again) give(line);
    else line.destroy();
  };
  return {
    size,
    length,
    async read(into) {
      let at = 0;
      const most = Math.min(into.length, left);
      while (at < most) {
        // What is here is given at once where it is worth a write of its own.
        if (line.ready === 0 && at >= BUFFER) break;
        const taken = await line.take(at === 0 && most === into.length ? into : into.subarray(at, most));
        at += taken;
        left -= taken;
      }
      if (left === 0) finish(kept && line.ready === 0);
      return at;
    },
    close: () => finish(false),
  };
}

/** One connection. One reader at a time. */
class Line {
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER);
  readonly #socket: Socket;
  #from = 0;
  #to = 0;
  #paused = false;
  #failure: Error | undefined;
  #waiting: { resolve(): void; reject(error: Error): void } | undefined;
  #stopRest: (() => void) | undefined;

  constructor(address: URL, ca: string | undefined) {
    const secure = address.protocol === 'https:';
    const { hostname } = address;
    const host = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
    const options: TcpNetConnectOpts = {
      host,
      port: address.port === '' ? (secure ? 443 : 80) : Number(address.port),
      noDelay: true,
      onread: {
        buffer: this.#buffer,
        callback: (length: number) => {
          this.#from = 0;
          this.#to = length;
          // Until it is taken nothing more is read.
          this.#paused = true;
          this.#tell();
          return false;
        },
      },
    };
    this.#socket = secure
      ? connectTls({
          ...options,
          ...(/^[\d.:]+$/.test(host) ? {} : { servername: host }),
          ...(ca === undefined ? {} : { ca }),
        })
      : connect(options);
    const stop = after(CONNECT_MILLISECONDS, () => this.#fail(new Error('no connection in time')), { held: true });
    this.#socket.once(secure ? 'secureConnect' : 'connect', stop);
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('end', () => this.#fail(new Error('the store ended the connection')));
    this.#socket.on('close', () => {
      stop();
      this.#fail(new Error('the connection broke'));
    });
  }

  /** Bytes that lie ready. */
  get ready(): number {
    return this.#to - this.#from;
  }

  /** Sends a request; the head of its answer. Rejects where it breaks. */
  async ask(request: string): Promise<string> {
    this.#socket.write(request, 'latin1');
    let head = Buffer.alloc(0);
    for (;;) {
      await this.#more();
      const part = this.#buffer.subarray(this.#from, this.#to);
      const before = head.length;
      head = Buffer.concat([head, part.subarray(0, HEAD_BYTES)]);
      const end = head.indexOf(HEAD_END);
      if (end >= 0) {
        this.#from += end + HEAD_END.length - before;
        return head.toString('latin1', 0, end);
      }
      if (head.length >= HEAD_BYTES) throw new Error('the head has no end');
      this.#from = this.#to;
    }
  }

  /** Copies what is there, waiting for it where nothing is. */
  async take(into: Uint8Array): Promise<number> {
    if (this.ready === 0) await this.#more();
    const length = Math.min(into.length, this.ready);
    into.set(this.#buffer.subarray(this.#from, this.#from + length));
    this.#from += length;
    return length;
  }

  /** Nobody uses it for now; `gone` is called where it ends meanwhile. */
  rest(gone: () => void): void {
    const stop = after(IDLE_MILLISECONDS, () => this.destroy());
    this.#socket.unref();
    this.#socket.once('close', gone);
    this.#stopRest = () => {
      stop();
      this.#socket.off('close', gone);
    };
    this.#resume();
  }

  /** Whether it can be used again. */
  wake(): boolean {
    this.#stopRest?.();
    this.#stopRest = undefined;
    this.#socket.ref();
    // Bytes that nobody asked for: whatever they are, they belong to no answer of ours.
    if (this.#failure === undefined && this.ready === 0) return true;
    this.destroy();
    return false;
  }

  destroy(): void {
    this.#fail(new Error('the reader has gone'));
  }

  #more(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#resume();
    });
  }

  #resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#socket.resume();
  }

  #tell(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#socket.destroy();
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.reject(this.#failure);
  }
}
