/** An append: what of the upload is kept as it is, what is taken again into new pieces, and what the body brings. */
import { FaultError } from '../../oci/error.ts';
import type { UploadId } from '../../oci/names.ts';
import { UploadBroken } from '../faults.ts';
import { checkSize } from '../names.ts';
import type { Appended, AppendOptions, UploadState } from '../storage.ts';
import { requestLimit, StoreAway } from './faults.ts';
import { bytesOf } from './join.ts';
import { cutAt, indexName, type Piece, type Pieces, parseState, sizeOf, writeState } from './pieces.ts';
import { missing, readWhole } from './read.ts';
import { receive } from './receive.ts';
import type { ObjectStore } from './store.ts';
import { pieceWriter, type WriterParts } from './writer.ts';

/** So many small pieces at the end are taken together by the next append. */
const MOST_SMALL = 64;
const INDEX_BYTES = 8 * 1024 * 1024;

/** The upload of this state, which has at least `size` bytes. */
export async function loadPieces(store: ObjectStore, id: UploadId, state: UploadState, size: number): Promise<Pieces> {
  const pieces = await parseState(state, async (writer) => {
    const bytes = await readWhole(store, indexName(id, writer), INDEX_BYTES);
    if (bytes === undefined) throw missing();
    return Buffer.from(bytes).toString('latin1');
  });
  if (pieces.size < size) {
    throw new FaultError('corrupt', `An upload has ${pieces.size} of ${size} bytes. Push it again.`);
  }
  return pieces;
}

/** Stores the body behind `at.size`; see `BlobStorage.append`. */
export async function appendPieces(
  parts: WriterParts,
  id: UploadId,
  at: Appended,
  body: AsyncIterable<Uint8Array>,
  options: AppendOptions,
): Promise<Appended> {
  const { store } = parts;
  const size = checkSize(at.size);
  const upload = await loadPieces(store, id, at.state, size);
  if (options.signal.aborted) throw new UploadBroken('signal', at, true, options.signal.reason);
  const { kept, again } = keep(upload.all, size, parts.pieceSize(0, 1));
  const wake: { now?: (() => void) | undefined } = {};
  const writer = pieceWriter(parts, id, kept.length, options.hash, () => wake.now?.());
  let failure = await receive(body, options.signal, writer, wake, async () => {
    if (again.size === 0) return;
    for await (const chunk of bytesOf(store, id, again.pieces, again.size)) await writer.add(chunk, false);
  });
  const pieces = [...kept, ...writer.stored()];
  let appended = at;
  // Where not even what stood before could be stored again, the old pieces count: they are all still there.
  if (sizeOf(pieces) > size || (size < upload.size && sizeOf(pieces) === size)) {
    try {
      const state = await writeState(pieces, upload, async (name, text) => {
        if (failure?.cause instanceof StoreAway) throw failure.cause;
        await parts.watched(requestLimit(text.length), 'store the index of an upload', (signal) =>
          store.put(indexName(id, name), Buffer.from(text, 'latin1'), signal),
        );
      });
      appended = { size: sizeOf(pieces), state };
    } catch (cause) {
      failure ??= { broke: 'storage', cause };
      if (failure.broke !== 'storage') failure = { broke: 'storage', cause };
    }
  }
  if (failure !== undefined) {
    throw new UploadBroken(failure.broke, appended, size + writer.hashed() === appended.size, failure.cause);
  }
  return appended;
}

/** The pieces that stay, and the bytes that are taken again: of a piece that was cut, or many small ones at the end. */
function keep(
  all: readonly Piece[],
  size: number,
  least: number,
): { kept: Piece[]; again: { pieces: readonly Piece[]; size: number } } {
  const { whole, partial } = cutAt(all, size);
  if (partial !== undefined) return { kept: whole, again: { pieces: [partial.piece], size: partial.length } };
  let small = 0;
  let bytes = 0;
  for (let at = whole.length - 1; at >= 0; at--) {
    const piece = whole[at]!;
    if (bytes + piece.size > least || piece.size >= least / 2) break;
    bytes += piece.size;
    small++;
  }
  if (small < MOST_SMALL) return { kept: whole, again: { pieces: [], size: 0 } };
  return { kept: whole.slice(0, whole.length - small), again: { pieces: whole.slice(-small), size: bytes } };
}

/** The budget for the pieces of all uploads of a process. */
export const ROOM_BYTES = 96 * 1024 * 1024;
