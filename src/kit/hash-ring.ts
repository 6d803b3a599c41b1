/**
 * The memory through which pieces of bytes go to a hashing thread: a ring that its owner fills and the thread empties
 * in the same order. A piece lies in one part of it; the first one lies at the start, so that a ring that is hardly
 * used touches little memory.
 */
import { DONE, type SharedRing, WANTED } from './hash-thread.ts';

/** The owner's side. */
export interface HashRing {
  readonly shared: SharedRing;
  /** Bytes that the thread has not taken yet. */
  readonly held: number;
  /**
   * Copies the bytes into the ring and says where they lie, or undefined where there is no room: then the thread says
   * when it has taken its next piece. A piece that is not longer than the ring fits into an empty one.
   */
  put(bytes: Uint8Array): number | undefined;
}

/** A ring of so many bytes. */
export function hashRing(size: number): HashRing {
  const shared: SharedRing = { bytes: new SharedArrayBuffer(size), control: new SharedArrayBuffer(8) };
  const memory = new Uint8Array(shared.bytes);
  const control = new Int32Array(shared.control);
  /** What the thread has not taken yet, oldest first. */
  const pieces: { readonly start: number; readonly end: number }[] = [];
  let taken = 0;
  let held = 0;

  function collect(): void {
    const now = Atomics.load(control, DONE);
    for (; taken !== now; taken = (taken + 1) | 0) {
      const piece = pieces.shift();
      if (piece === undefined) throw new Error('a hashing thread took more pieces than it was given');
      held -= piece.end - piece.start;
    }
  }

  function place(length: number): number | undefined {
    const first = pieces[0];
    const last = pieces.at(-1);
    if (first === undefined || last === undefined) return length <= size ? 0 : undefined;
    if (last.end <= first.start) return length <= first.start - last.end ? last.end : undefined;
    if (length <= size - last.end) return last.end;
    return length <= first.start ? 0 : undefined;
  }

  return {
    shared,
    get held() {
      collect();
      return held;
    },
    put(bytes) {
      collect();
      let start = place(bytes.length);
      if (start === undefined) {
        // Asked for first and looked at again: whichever way the thread comes in between, it is not missed.
        Atomics.store(control, WANTED, 1);
        collect();
        start = place(bytes.length);
        if (start === undefined) return undefined;
      }
      memory.set(bytes, start);
      pieces.push({ start, end: start + bytes.length });
      held += bytes.length;
      return start;
    },
  };
}
