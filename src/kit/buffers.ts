/** Reading at a position, and the one budget of transfer buffers. The implementation follows the interfaces. */

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
