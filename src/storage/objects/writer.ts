/** Collecting an upload's bytes into pieces: up to three are stored while the next one fills and is hashed. */
import { failpoint } from '../../kit/failpoint.ts';
import type { UploadId } from '../../oci/names.ts';
import type { AppendOptions } from '../storage.ts';
import { requestLimit } from './faults.ts';
import { newWriter, type Piece, pieceName } from './pieces.ts';
import type { Room } from './room.ts';
import type { ObjectStore } from './store.ts';
import { ANY_MILLISECONDS, type Vigil } from './vigil.ts';

/** Pieces on their way at once, of one upload. */
const AT_ONCE = 3;
/** Of many uploads each begins with a small buffer, which doubles as it fills: most of them are slow. */
const SMALL_BUFFER = 256 * 1024;
const FEW = 2;
const HASH_SLICE = 256 * 1024;
/** The size of the first pieces. */
export const PIECE = 8 * 1024 * 1024;

/** Pieces grow so that 10,000 of them, what one multipart takes, make 280 GiB; beyond, `commit` joins in two steps. */
export function pieceSize(number: number, uploads: number): number {
  if (number < 512 || uploads > 4) return PIECE;
  return number < 1536 ? 2 * PIECE : 4 * PIECE;
}

/** What the writers of one storage share. */
export interface WriterParts {
  readonly store: ObjectStore;
  readonly watched: Vigil;
  readonly room: Room;
  /** Tests: the size of piece `number`. */
  readonly pieceSize: (number: number, uploads: number) => number;
}

/** Takes an upload's bytes in order. */
export interface PieceWriter {
  /** Takes a chunk, hashed or not; to be awaited before the next. Rejects with the first failure of the store or hash. */
  add(chunk: Uint8Array, hashed: boolean): Promise<void>;
  /** Whether somebody else needs the memory, or what was on its way failed: `flush` then. */
  readonly pressed: boolean;
  /** Stores what was collected, as one piece. Rejects with the first failure. */
  flush(): Promise<void>;
  /** Stores the rest and waits for everything on its way. Rejects with the first failure. Always to be called. */
  end(): Promise<void>;
  /** The pieces that are stored, without those behind one that is not. */
  stored(): Piece[];
  /** How many bytes the hash took. */
  hashed(): number;
}

/** A writer whose first piece is the upload's `count`-th. `press` is called where `pressed` becomes true, which is while it may be waiting for the body. */
export function pieceWriter(
  { store, watched, room, pieceSize: sizeFor }: WriterParts,
  id: UploadId,
  count: number,
  hash: AppendOptions['hash'],
  press: () => void,
): PieceWriter {
  const writer = newWriter();
  const holder = room.enter(press);
  const pieces: { readonly piece: Piece; stored: boolean }[] = [];
  const onTheWay = new Set<Promise<void>>();
  let buffer: Uint8Array | undefined;
  /** The size at which the piece in the buffer is whole. */
  let target = 0;
  let filled = 0;
  /** Up to where the buffer was hashed, or needs not to be. */
  let settled = 0;
  let hashed = 0;
  let failed: { readonly cause: unknown } | undefined;

  async function feed(end: number): Promise<void> {
    while (settled < end) {
      const slice = buffer!.subarray(settled, Math.min(end, settled + HASH_SLICE));
      if (hash !== undefined) {
        try {
          await hash.update(slice);
        } catch (cause) {
          failed ??= { cause };
          throw cause;
        }
        hashed += slice.length;
      }
      settled += slice.length;
    }
  }

  /** A buffer, or a larger one with the same bytes; false where what is collected has to be stored first. */
  async function grow(): Promise<boolean> {
    const small = buffer;
    let size: number;
    if (small === undefined) {
      target = sizeFor(count + pieces.length, room.uploads);
      size = room.uploads <= FEW ? target : Math.min(SMALL_BUFFER, target);
    } else size = Math.min(target, 2 * small.length);
    const asked = room.obtain(holder, size);
    // Those that have the room cannot store either where the store is away.
    const larger =
      asked instanceof Uint8Array ? asked : await watched(ANY_MILLISECONDS, 'store a piece of an upload', () => asked);
    if (larger === 'flush') return false;
    buffer = larger;
    if (small !== undefined) {
      larger.set(small);
      room.giveBack(holder, small);
    }
    return true;
  }

  async function store1(piece: Piece, bytes: Uint8Array, whole: Uint8Array, sent: number, entry: { stored: boolean }) {
    failpoint('piece.put.before');
    try {
      await watched(requestLimit(bytes.length), 'store a piece of an upload', (signal) =>
        store.put(pieceName(id, piece), bytes, signal),
      );
      failpoint('piece.put.after');
      entry.stored = true;
      room.release(sent, whole);
    } catch (cause) {
      failed ??= { cause };
      // A request that was given up may still read the buffer.
      room.release(sent);
      // The body's next bytes may be long in coming.
      press();
    }
  }

  function check(): void {
    if (failed !== undefined) throw failed.cause;
  }

  async function flush(): Promise<void> {
    check();
    if (filled === 0) {
      holder.pressed = false;
      return;
    }
    await feed(filled);
    while (onTheWay.size >= AT_ONCE) await Promise.race(onTheWay);
    check();
    const whole = buffer!;
    const piece: Piece = { writer, number: pieces.length, size: filled };
    const entry = { piece, stored: false };
    pieces.push(entry);
    const bytes = whole.subarray(0, filled);
    buffer = undefined;
    filled = settled = 0;
    const job: Promise<void> = store1(piece, bytes, whole, room.send(holder), entry).finally(() =>
      onTheWay.delete(job),
    );
    onTheWay.add(job);
  }

  return {
    async add(chunk, toHash) {
      for (let at = 0; at < chunk.length; ) {
        check();
        if (buffer === undefined || filled === buffer.length) {
          if (!(await grow())) {
            await flush();
            continue;
          }
        }
        const into = buffer!;
        const length = Math.min(into.length - filled, target - filled, chunk.length - at);
        into.set(at === 0 && length === chunk.length ? chunk : chunk.subarray(at, at + length), filled);
        filled += length;
        at += length;
        if (!toHash) settled = filled;
        else if (filled - settled >= HASH_SLICE) await feed(filled);
        if (filled === target) await flush();
      }
    },
    get pressed() {
      return holder.pressed || failed !== undefined;
    },
    flush,
    async end() {
      try {
        if (failed === undefined) await flush();
      } catch (cause) {
        failed ??= { cause };
      }
      await Promise.all(onTheWay);
      room.leave(holder);
      buffer = undefined;
      check();
    },
    stored() {
      const end = pieces.findIndex(({ stored }) => !stored);
      return pieces.slice(0, end < 0 ? pieces.length : end).map(({ piece }) => piece);
    },
    hashed: () => hashed,
  };
}
