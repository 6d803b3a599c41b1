/**
 * The memory of all uploads of one process: pieces are collected in buffers which count against one budget and are used
 * again. Who finds no room waits in order. So that slow clients who hold half-filled pieces cannot stop the others, the
 * largest holder is pressed to store what it has (a piece may have any size) while somebody waits. After the last
 * upload the buffers belong to the collector; until it comes the next upload takes them again, or the memory of both
 * would be there at once.
 */

/** One upload that collects. */
export interface Holder {
  /** Called when it is to store what it holds soon. */
  readonly press: () => void;
  /** Whether it was pressed since its bytes last went to flight. */
  pressed: boolean;
  /** Bytes of the buffers that it fills. */
  collecting: number;
}

interface Waiter {
  readonly holder: Holder;
  readonly size: number;
  answer(answer: Uint8Array | 'flush'): void;
}

/** The budget. */
export interface Room {
  /** How many uploads are under way. */
  readonly uploads: number;
  /** Bytes of all buffers, for tests and metrics. */
  readonly used: number;
  enter(press: () => void): Holder;
  /** What it collects is free, and what it waits for is for others. */
  leave(holder: Holder): void;
  /** A buffer of at least this size. `flush`: there is none before the holder has stored what it holds; ask again then. */
  obtain(holder: Holder, size: number): Promise<Uint8Array | 'flush'> | Uint8Array;
  /** A buffer that is not needed after all. */
  giveBack(holder: Holder, buffer: Uint8Array): void;
  /** What the holder collected is being stored now. Gives its bytes. */
  send(holder: Holder): number;
  /** So many sent bytes are free. With `buffer` others may use it; without, a request may still read it. */
  release(bytes: number, buffer?: Uint8Array): void;
}

/** Buffers that the next upload may find again. */
const MOST_LEFT = 16;

/** A budget of its own. */
export function room(budget: number): Room {
  const free = new Map<number, Uint8Array[]>();
  const holders = new Set<Holder>();
  const waiting: Waiter[] = [];
  /** Of no upload, and not counted. */
  const left: WeakRef<Uint8Array>[] = [];
  let used = 0;
  let inFlight = 0;

  function drop(most: number): void {
    for (const [size, buffers] of free) {
      while (used > most && buffers.length > 0) {
        buffers.pop();
        used -= size;
      }
    }
  }

  function larger(size: number): Uint8Array | undefined {
    let least = Number.POSITIVE_INFINITY;
    for (const [other, buffers] of free) if (other > size && other < least && buffers.length > 0) least = other;
    return free.get(least)?.pop();
  }

  function lend(holder: Holder, size: number): Uint8Array | undefined {
    let buffer = free.get(size)?.pop();
    // Making room for another size leaves memory to the collector for a while: a larger one does as well.
    if (buffer === undefined && used + size > budget) buffer = larger(size);
    if (buffer === undefined) {
      if (used + size > budget) drop(budget - size);
      if (used + size > budget) return undefined;
      used += size;
      buffer = findLeft(size) ?? Buffer.allocUnsafeSlow(size);
    }
    holder.collecting += buffer.length;
    return buffer;
  }

  function findLeft(size: number): Uint8Array | undefined {
    for (let at = left.length - 1; at >= 0; at--) {
      const buffer = left[at]!.deref();
      if (buffer !== undefined && buffer.length !== size) continue;
      left.splice(at, 1);
      if (buffer !== undefined) return buffer;
    }
    return undefined;
  }

  /** Nobody has an upload. */
  function leaveAll(): void {
    for (const buffers of free.values()) for (const buffer of buffers) left.push(new WeakRef(buffer));
    // No more than were once there together; those that are gone are forgotten when one is looked for.
    left.splice(0, left.length - MOST_LEFT);
    drop(0);
  }

  function keep(buffer: Uint8Array): void {
    const buffers = free.get(buffer.length);
    if (buffers === undefined) free.set(buffer.length, [buffer]);
    else buffers.push(buffer);
  }

  function serve(): void {
    for (let next = waiting[0]; next !== undefined; next = waiting[0]) {
      const buffer = lend(next.holder, next.size);
      if (buffer === undefined) break;
      waiting.shift();
      next.answer(buffer);
    }
    relieve();
  }

  /** While somebody waits, so much is on its way that they will have room. */
  function relieve(): void {
    if (waiting.length === 0) return;
    let coming = inFlight;
    for (const holder of holders) if (holder.pressed) coming += holder.collecting;
    while (coming < budget / 2) {
      let largest: Holder | undefined;
      for (const holder of holders) {
        if (!holder.pressed && holder.collecting > (largest?.collecting ?? 0)) largest = holder;
      }
      if (largest === undefined) return;
      largest.pressed = true;
      coming += largest.collecting;
      const at = waiting.findIndex(({ holder }) => holder === largest);
      if (at < 0) largest.press();
      else waiting.splice(at, 1)[0]!.answer('flush');
    }
  }

  return {
    get uploads() {
      return holders.size;
    },
    get used() {
      return used;
    },
    enter(press) {
      const holder: Holder = { press, pressed: false, collecting: 0 };
      holders.add(holder);
      return holder;
    },
    leave(holder) {
      holders.delete(holder);
      const at = waiting.findIndex((waiter) => waiter.holder === holder);
      if (at >= 0) waiting.splice(at, 1);
      used -= holder.collecting;
      holder.collecting = 0;
      if (holders.size === 0) leaveAll();
      serve();
    },
    obtain(holder, size) {
      const buffer = waiting.length === 0 ? lend(holder, size) : undefined;
      if (buffer !== undefined) return buffer;
      // It was pressed while it hashed: its own bytes are those that others, and now it as well, wait for.
      if (holder.pressed && holder.collecting > 0) return Promise.resolve('flush');
      return new Promise((answer) => {
        waiting.push({ holder, size, answer });
        relieve();
      });
    },
    giveBack(holder, buffer) {
      holder.collecting -= buffer.length;
      keep(buffer);
      serve();
    },
    send(holder) {
      const bytes = holder.collecting;
      holder.collecting = 0;
      holder.pressed = false;
      inFlight += bytes;
      return bytes;
    },
    release(bytes, buffer) {
      inFlight -= bytes;
      if (buffer === undefined) used -= bytes;
      else keep(buffer);
      serve();
    },
  };
}
