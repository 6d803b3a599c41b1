/**
 * Two ways to talk HTTP/1.1 to a started server: `ask`, one request on a connection of its own, and `Wire`, a raw
 * socket for what an HTTP library would never send. Both give the same `Answer`.
 */
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';

/** Where a server listens. */
export interface Place {
  /** A host, with or without a port after it. */
  readonly host: string;
  readonly port: number;
}

/** One answer, with its headers as they came. */
export interface Answer {
  readonly status: number;
  /** Name (lower case) and value, in the order received. */
  readonly rawHeaders: readonly (readonly [string, string])[];
  readonly body: Buffer;
  /** The first value of a header, or ''. */
  header(name: string): string;
  /** Every value of a header. */
  all(name: string): string[];
  text(): string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever came
  json(): any;
}

function answerOf(status: number, rawHeaders: readonly (readonly [string, string])[], body: Buffer): Answer {
  const all = (name: string): string[] => rawHeaders.filter(([key]) => key === name.toLowerCase()).map(([, v]) => v);
  return {
    status,
    rawHeaders,
    body,
    all,
    header: (name) => all(name)[0] ?? '',
    text: () => body.toString('utf8'),
    json: () => JSON.parse(body.toString('utf8')),
  };
}

/** What `ask` may send along. A Readable goes out chunked. */
export interface AskOptions {
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: Uint8Array | string | Readable;
}

const DEADLINE_MS = 120_000;

/** One request on its own connection. An answer that comes before the body was taken counts as the answer. */
export function ask(place: Place, method: string, path: string, options: AskOptions = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let answered = false;
    const outgoing = request({
      host: place.host.split(':')[0],
      port: place.port,
      method,
      path,
      agent: false,
      headers: { ...(options.headers as Record<string, string | string[]>) },
    });
    outgoing.setTimeout(DEADLINE_MS, () => outgoing.destroy(new Error(`no answer to ${method} ${path}`)));
    outgoing.on('response', (incoming) => {
      answered = true;
      const parts: Buffer[] = [];
      incoming.on('data', (part: Buffer) => parts.push(part));
      incoming.on('error', reject);
      incoming.on('end', () => {
        if (!incoming.complete) {
          reject(new Error(`the answer to ${method} ${path} was cut`));
          return;
        }
        const raw: [string, string][] = [];
        for (let i = 0; i < incoming.rawHeaders.length; i += 2) {
          raw.push([incoming.rawHeaders[i]!.toLowerCase(), incoming.rawHeaders[i + 1]!]);
        }
        outgoing.destroy();
        resolve(answerOf(incoming.statusCode ?? 0, raw, Buffer.concat(parts)));
      });
    });
    outgoing.on('error', (error) => {
      if (!answered) reject(error);
    });
    const body = options.body;
    if (body instanceof Readable) {
      body.on('error', () => outgoing.destroy());
      body.pipe(outgoing);
    } else if (body === undefined) {
      outgoing.end();
    } else {
      outgoing.end(body);
    }
  });
}

/** A raw connection. Answers are read in order; `answer` waits for the next whole one. */
export class Wire {
  readonly socket: Socket;
  #buffer: Buffer = Buffer.alloc(0);
  #end: 'fin' | 'reset' | undefined;
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (data: Buffer) => {
      this.#buffer = Buffer.concat([this.#buffer, data]);
      this.#wake();
    });
    socket.on('end', () => this.#finish('fin'));
    socket.on('error', () => this.#finish('reset'));
    socket.on('close', () => this.#finish('fin'));
  }

  static connect(place: Place, options: { allowHalfOpen?: boolean } = {}): Promise<Wire> {
    return new Promise((resolve, reject) => {
      const socket = connect({
        host: place.host.split(':')[0],
        port: place.port,
        allowHalfOpen: options.allowHalfOpen ?? false,
      });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        socket.setNoDelay(true);
        resolve(new Wire(socket));
      });
    });
  }

  #finish(how: 'fin' | 'reset'): void {
    this.#end ??= how;
    this.#wake();
  }

  #more(): Promise<void> {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error('nothing came within two minutes')), DEADLINE_MS);
      this.#wake = () => {
        clearTimeout(late);
        resolve();
      };
    });
  }

  /** Writes as it is. Resolves when the kernel has it, or the connection has gone. */
  send(data: string | Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      if (this.socket.destroyed) resolve();
      else this.socket.write(data, () => resolve());
    });
  }

  /** The next whole answer (1xx too). `method` HEAD: it has no body. Throws where the connection ends first. */
  async answer(method = 'GET'): Promise<Answer> {
    const head = await this.#until(() => {
      const at = this.#buffer.indexOf('\r\n\r\n');
      return at < 0 ? undefined : at;
    });
    const lines = this.#buffer.subarray(0, head).toString('latin1').split('\r\n');
    this.#buffer = this.#buffer.subarray(head + 4);
    const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(lines[0] ?? '')?.[1]);
    if (!Number.isInteger(status)) throw new Error(`not an answer: ${lines[0]}`);
    const raw = lines.slice(1).map((line): [string, string] => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    });
    const value = (name: string): string | undefined => raw.find(([key]) => key === name)?.[1];
    if (method === 'HEAD' || status < 200 || status === 204 || status === 304) {
      return answerOf(status, raw, Buffer.alloc(0));
    }
    const length = value('content-length');
    if (length !== undefined) {
      const size = Number(length);
      await this.#until(() => (this.#buffer.length >= size ? size : undefined));
      const body = this.#buffer.subarray(0, size);
      this.#buffer = this.#buffer.subarray(size);
      return answerOf(status, raw, body);
    }
    if (/chunked/i.test(value('transfer-encoding') ?? '')) return answerOf(status, raw, await this.#chunked());
    await this.ended();
    const body = this.#buffer;
    this.#buffer = Buffer.alloc(0);
    return answerOf(status, raw, body);
  }

  async #chunked(): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (;;) {
      const at = await this.#until(() => {
        const found = this.#buffer.indexOf('\r\n');
        return found < 0 ? undefined : found;
      });
      const size = Number.parseInt(this.#buffer.subarray(0, at).toString('latin1'), 16);
      await this.#until(() => (this.#buffer.length >= at + 4 + size ? size : undefined));
      parts.push(this.#buffer.subarray(at + 2, at + 2 + size));
      this.#buffer = this.#buffer.subarray(at + 4 + size);
      if (size === 0) return Buffer.concat(parts);
    }
  }

  async #until(ready: () => number | undefined): Promise<number> {
    for (;;) {
      const value = ready();
      if (value !== undefined) return value;
      if (this.#end !== undefined) {
        throw new Error(
          `the connection ended (${this.#end}) before a whole answer; had: ${this.#buffer.toString('latin1').slice(0, 300)}`,
        );
      }
      await this.#more();
    }
  }

  /** Waits until the other end has closed; what it sent and was not read stays readable. */
  async ended(): Promise<'fin' | 'reset'> {
    while (this.#end === undefined) await this.#more();
    return this.#end;
  }

  /** What has come and was not read as an answer. */
  rest(): string {
    return this.#buffer.toString('latin1');
  }

  destroy(): void {
    this.socket.destroy();
  }
}

/** Sends one raw request and reads one answer; the connection is closed afterwards. */
export async function rawAsk(place: Place, data: string | Uint8Array, method = 'GET'): Promise<Answer> {
  const wire = await Wire.connect(place);
  try {
    await wire.send(data);
    return await wire.answer(method);
  } finally {
    wire.destroy();
  }
}

/** A request line with the headers that every request here needs. */
export function head(method: string, target: string, headers: readonly string[] = []): string {
  return `${[`${method} ${target} HTTP/1.1`, 'Host: registry.test', ...headers].join('\r\n')}\r\n\r\n`;
}

/** Asks again, in turns of the loop and short pauses, until `done` says yes; throws after about two minutes. */
export async function eventually<T>(what: string, attempt: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (let i = 0; i < 2_400; i += 1) {
    const value = await attempt();
    if (value !== undefined) return value;
    await pause(50);
  }
  throw new Error(`never happened: ${what}`);
}

/** A pause, where a peer is slow on purpose. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
