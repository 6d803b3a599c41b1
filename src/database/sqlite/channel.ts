/**
 * Several processes over one SQLite file: the primary owns the folder and the writer thread; members read by
 * themselves and send their commands through a channel.
 */
import type { Lease } from '../../kit/facts.ts';
import { FaultError } from '../../oci/error.ts';
import type { RunOptions } from '../database.ts';
import { fromWire, toWire, type WireError } from '../faults.ts';

/**
 * Two ends of one ordered connection between a member and the primary, such as `process.send` with
 * `serialization: 'advanced'` (plain data with Uint8Arrays must pass). Messages of others on it are ignored.
 */
export interface Channel {
  send(message: unknown): void;
  /** Returns the unsubscription. */
  onMessage(listener: (message: unknown) => void): () => void;
  /** The other end is gone. */
  onClose?(listener: () => void): () => void;
}

interface RunMessage {
  readonly longshore: 'database.run';
  readonly id: number;
  readonly name: string;
  readonly args: unknown;
  readonly lane?: 'request' | 'job';
  readonly lease?: Lease;
}
interface PingMessage {
  readonly longshore: 'database.ping';
  readonly id: number;
}
interface DoneMessage {
  readonly longshore: 'database.done';
  readonly id: number;
  readonly result: unknown;
}
interface FailedMessage {
  readonly longshore: 'database.failed';
  readonly id: number;
  readonly error: WireError;
}
interface TouchedMessage {
  readonly longshore: 'database.touched';
  readonly repositories: readonly string[];
}
type Message = RunMessage | PingMessage | DoneMessage | FailedMessage | TouchedMessage;

const MOST_WAITING = 4096;

function isMessage(message: unknown): message is Message {
  const kind = (message as { longshore?: unknown } | null)?.longshore;
  return typeof kind === 'string' && kind.startsWith('database.');
}

/** What the primary gives its members. */
export interface Primary {
  run(name: string, args: unknown, options: RunOptions): Promise<unknown>;
  onTouched(listener: (repositories: readonly string[]) => void): () => void;
  /** Rejects where it cannot write; absent: nobody asks. */
  ping?(): Promise<void>;
}

/**
 * Serves one member until the returned function is called or the channel closes. Every member hears what a batch
 * touched before anyone's promise of that batch is answered.
 */
export function serveMember(primary: Primary, channel: Channel): () => void {
  const send = (message: Message): void => {
    try {
      channel.send(message);
    } catch {
      // The member is gone; what it asked for is done all the same.
    }
  };
  const ends = [
    primary.onTouched((repositories) => send({ longshore: 'database.touched', repositories })),
    channel.onMessage((message) => {
      if (!isMessage(message)) return;
      const work = workOf(primary, message);
      if (work === undefined) return;
      const { id } = message as RunMessage | PingMessage;
      work.then(
        (result) => send({ longshore: 'database.done', id, result }),
        (error) => send({ longshore: 'database.failed', id, error: toWire(error) }),
      );
    }),
  ];
  const stop = (): void => {
    for (const end of ends.splice(0)) end();
  };
  const closed = channel.onClose?.(stop);
  if (closed !== undefined) ends.push(closed);
  return stop;
}

function workOf(primary: Primary, message: Message): Promise<unknown> | undefined {
  if (message.longshore === 'database.ping') return primary.ping?.() ?? Promise.resolve();
  if (message.longshore !== 'database.run') return undefined;
  const { name, args, lane, lease } = message;
  return primary.run(name, args, { ...(lane && { lane }), ...(lease && { lease }) });
}

/** The member's side: commands go out, answers and touched names come in. */
export class Member {
  readonly #channel: Channel;
  readonly #waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();
  readonly #ends: (() => void)[];
  #last = 0;
  #closed = false;
  #drained: (() => void) | undefined;

  constructor(channel: Channel, onTouched: (repositories: readonly string[]) => void) {
    this.#channel = channel;
    this.#ends = [
      channel.onMessage((message) => {
        if (!isMessage(message)) return;
        switch (message.longshore) {
          case 'database.touched':
            onTouched(message.repositories);
            break;
          case 'database.done':
            this.#settle(message.id)?.resolve(message.result);
            break;
          case 'database.failed':
            this.#settle(message.id)?.reject(fromWire(message.error));
        }
      }),
    ];
    const closed = channel.onClose?.(() => this.#fail());
    if (closed !== undefined) this.#ends.push(closed);
  }

  /** Sends a command. Rejects with what it threw, or FaultError `full`, `unavailable`. */
  run(name: string, args: unknown, { lane, lease }: RunOptions): Promise<unknown> {
    return this.#ask((id) => ({
      longshore: 'database.run',
      id,
      name,
      args,
      ...(lane && { lane }),
      ...(lease && { lease: { id: lease.id, fence: lease.fence } }),
    }));
  }

  /** Resolves when the primary has shown that it can write; rejects with FaultError where it cannot. */
  async ping(): Promise<void> {
    await this.#ask((id) => ({ longshore: 'database.ping', id }));
  }

  #ask(messageOf: (id: number) => Message): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#closed) throw new FaultError('unavailable', 'The database is closing.');
      if (this.#waiting.size >= MOST_WAITING) {
        throw new FaultError('full', 'Too many changes wait for the database.', { retryAfterSeconds: 2 });
      }
      const id = ++this.#last;
      try {
        this.#channel.send(messageOf(id));
      } catch (cause) {
        throw new FaultError('unavailable', 'The process that writes the database does not answer.', { cause });
      }
      this.#waiting.set(id, { resolve, reject });
    });
  }

  /** Waits for all answers and leaves the channel. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#waiting.size > 0) {
      await new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
    }
    for (const end of this.#ends.splice(0)) end();
  }

  #settle(id: number): { resolve: (result: unknown) => void; reject: (error: Error) => void } | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (this.#waiting.size === 0) this.#drained?.();
    return waiting;
  }

  #fail(): void {
    this.#closed = true;
    const fault = new FaultError('unavailable', 'The process that writes the database is gone.', {
      retryAfterSeconds: 2,
    });
    for (const { reject } of this.#waiting.values()) reject(fault);
    this.#waiting.clear();
    this.#drained?.();
  }
}
