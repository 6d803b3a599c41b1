/**
 * Reading at a position, and the one budget of transfer buffers: whatever the number of transfers, the memory they hold
 * is bounded, and who finds no room waits in order.
 */

/** Reads at a position counted from the blob's start into the given buffer; 0 at the end. */
export interface RandomReader {
  read(into: Uint8Array, position: number): Promise<number>;
  close(): Promise<void>;
}

/** A borrowed buffer. `giveBack` exactly once, and never while the kernel may still read it: then `drop`. */
export interface Borrowed {
  readonly bytes: Uint8Array;
  /** Returns it to the pool. */
  giveBack(): void;
  /** Returns its room to the budget but leaves the memory to the collector (an aborted write may still read it). */
  drop(): void;
}

/** One transfer under way. `borrow` waits for room and rejects when the signal aborts. */
export interface Transfer {
  borrow(signal?: AbortSignal): Promise<Borrowed>;
  end(): void;
}

/** One budget for the process (64 MiB): a buffer is 512 KiB while at most 32 transfers run, 64 KiB beyond. */
export interface TransferBuffers {
  begin(): Transfer;
  /** Bytes lent at this moment, for the metric. */
  readonly lentBytes: number;
}

/** The sizes, in bytes. What is left out has the default. */
export interface TransferLimits {
  /** Most bytes lent at once. 64 MiB; at least `large`. */
  readonly budget?: number;
  /** A buffer while at most `few` transfers run. 512 KiB. */
  readonly large?: number;
  /** A buffer beyond. 64 KiB. */
  readonly small?: number;
  /** 32. */
  readonly few?: number;
  /** Most bytes kept for the next borrower while nobody holds them. 8 MiB. */
  readonly idle?: number;
}

interface Waiter {
  readonly transfer: object;
  grant(lent: Borrowed): void;
  refuse(reason: unknown): void;
}

/** The budget. A waiting borrower is served before every later one, whatever its size. */
export function transferBuffers(limits: TransferLimits = {}): TransferBuffers {
  const { large = 512 * 1024, small = 64 * 1024, few = 32, idle = 8 * 1024 * 1024 } = limits;
  const budget = Math.max(limits.budget ?? 64 * 1024 * 1024, large);
  const free = { large: [] as Uint8Array[], small: [] as Uint8Array[] };
  const waiting = new Set<Waiter>();
  let transfers = 0;
  let lent = 0;
  let kept = 0;

  function lend(kind: 'large' | 'small'): Borrowed {
    const size = kind === 'large' ? large : small;
    let bytes = free[kind].pop();
    if (bytes === undefined) bytes = new Uint8Array(Buffer.allocUnsafeSlow(size).buffer);
    else kept -= size;
    lent += size;
    let held = true;
    const settle = (pool: boolean): void => {
      if (!held) return;
      held = false;
      lent -= size;
      if (pool && kept + size <= idle) {
        free[kind].push(bytes);
        kept += size;
      }
      serve();
    };
    return { bytes, giveBack: () => settle(true), drop: () => settle(false) };
  }

  function room(): 'large' | 'small' | undefined {
    const kind = transfers <= few ? 'large' : 'small';
    return lent + (kind === 'large' ? large : small) <= budget ? kind : undefined;
  }

  function serve(): void {
    for (const waiter of waiting) {
      const kind = room();
      if (kind === undefined) return;
      waiting.delete(waiter);
      waiter.grant(lend(kind));
    }
  }

  function borrow(transfer: object, signal: AbortSignal | undefined): Promise<Borrowed> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (waiting.size === 0) {
      const kind = room();
      if (kind !== undefined) return Promise.resolve(lend(kind));
    }
    return new Promise((resolve, reject) => {
      const aborted = (): void => {
        waiting.delete(waiter);
        reject(signal?.reason);
      };
      const waiter: Waiter = {
        transfer,
        grant: (borrowed) => {
          signal?.removeEventListener('abort', aborted);
          resolve(borrowed);
        },
        refuse: (reason) => {
          signal?.removeEventListener('abort', aborted);
          waiting.delete(waiter);
          reject(reason);
        },
      };
      waiting.add(waiter);
      signal?.addEventListener('abort', aborted, { once: true });
    });
  }

  return {
    begin() {
      transfers++;
      let running = true;
      const transfer: Transfer = {
        borrow: (signal) =>
          running ? borrow(transfer, signal) : Promise.reject(new Error('borrowed after the transfer ended')),
        end: () => {
          if (!running) return;
          running = false;
          transfers--;
          for (const waiter of waiting) {
            if (waiter.transfer === transfer)
              waiter.refuse(new Error('the transfer ended while it waited for a buffer'));
          }
          serve();
        },
      };
      return transfer;
    },
    get lentBytes() {
      return lent;
    },
  };
}
