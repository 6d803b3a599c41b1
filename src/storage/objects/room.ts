/**
 * The memory of all uploads of one process: pieces are collected in buffers whose touched bytes are counted against one
 * budget. Who finds no room waits in order. So that slow clients who hold half-filled pieces cannot stop the others,
 * the largest holder is pressed to store what it has (a piece may have any size) while somebody waits.
 */

/** One upload that collects. */
export interface Holder {
  /** Called when it is to store what it holds soon. */
  press: () => void;
  /** Whether it was pressed since its bytes last went to flight. */
  pressed: boolean;
  /** Bytes of its half-filled piece. */
  collecting: number;
}

interface Waiter {
  readonly holder: Holder;
  readonly bytes: number;
  answer(answer: 'granted' | 'flush'): void;
}

/** The budget. */
export interface Room {
  /** How many uploads are under way. */
  readonly uploads: number;
  /** Bytes in use, for tests and metrics. */
  readonly used: number;
  enter(press: () => void): Holder;
  leave(holder: Holder): void;
  /** A buffer, and how many of its bytes count as reserved already (it was used before). */
  take(holder: Holder, size: number): { readonly bytes: Uint8Array; readonly reserved: number };
  /** Room for so many bytes more. `flush`: there is none before the holder has stored what it holds; ask again then. */
  reserve(holder: Holder, bytes: number): Promise<'granted' | 'flush'> | undefined;
  /** What the holder collected is being stored now. */
  send(holder: Holder): number;
  /** So many sent bytes are free; the buffer may be given to others unless a request may still read it. */
  release(bytes: number, buffer?: Uint8Array): void;
}

/** A budget of its own. `keep`: the size of the buffers that are kept for the next while uploads run. */
export function room(budget: number, keep: number): Room {
  const free: Uint8Array[] = [];
  const holders = new Set<Holder>();
  const waiting: Waiter[] = [];
  let used = 0;
  let inFlight = 0;

  function fits(bytes: number): boolean {
    while (used + bytes > budget && free.length > 0) {
      free.pop();
      used -= keep;
    }
    return used + bytes <= budget;
  }

  function grant(holder: Holder, bytes: number): void {
    used += bytes;
    holder.collecting += bytes;
  }

  function serve(): void {
    for (let next = waiting[0]; next !== undefined && fits(next.bytes); next = waiting[0]) {
      waiting.shift();
      grant(next.holder, next.bytes);
      next.answer('granted');
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
      used -= holder.collecting;
      holder.collecting = 0;
      if (holders.size === 0) {
        used -= free.length * keep;
        free.length = 0;
      }
      serve();
    },
    take(holder, size) {
      const bytes = size === keep && waiting.length === 0 ? free.pop() : undefined;
      if (bytes === undefined) return { bytes: Buffer.allocUnsafeSlow(size), reserved: 0 };
      holder.collecting += keep;
      return { bytes, reserved: keep };
    },
    reserve(holder, bytes) {
      if (waiting.length === 0 && fits(bytes)) {
        grant(holder, bytes);
        return undefined;
      }
      // It was pressed while it hashed: its own bytes are those that others, and now it as well, wait for.
      if (holder.pressed) return Promise.resolve('flush');
      return new Promise((answer) => {
        waiting.push({ holder, bytes, answer });
        relieve();
      });
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
      if (
        buffer !== undefined &&
        bytes === keep &&
        buffer.length === keep &&
        holders.size > 0 &&
        waiting.length === 0
      ) {
        free.push(buffer);
      } else used -= bytes;
      serve();
    },
  };
}
