/** Making a blob of an upload's pieces: they are joined by the store, straight under the key. */
import { failpoint } from '../../kit/failpoint.ts';
import { FaultError } from '../../oci/error.ts';
import type { UploadId } from '../../oci/names.ts';
import { fault, REQUEST_MILLISECONDS, requestLimit, StoreAway, timed } from './faults.ts';
import { cutAt, newWriter, type Piece, pieceName, sizeOf, uploadPrefix } from './pieces.ts';
import { missing, readObject } from './read.ts';
import type { JoinSource, ObjectInfo, ObjectStore } from './store.ts';
import { ANY_MILLISECONDS, type Vigil } from './vigil.ts';

/** What a join needs. */
export interface JoinParts {
  readonly store: ObjectStore;
  readonly watched: Vigil;
  /** Runs few at a time, process-wide: each holds a merged piece in memory. */
  readonly merging: <T>(work: () => Promise<T>) => Promise<T>;
}

/** A joined segment is a source of its own afterwards. */
const SEGMENT = 4 * 1024 * 1024 * 1024;

/** The first `size` bytes of the pieces, whole under `name`. What stands there already with this size is fine, with another it is corrupt. */
export async function joinPieces(
  parts: JoinParts,
  id: UploadId,
  pieces: readonly Piece[],
  size: number,
  name: string,
): Promise<ObjectInfo> {
  const { store } = parts;
  const head = (): Promise<ObjectInfo | undefined> =>
    timed(REQUEST_MILLISECONDS, 'look up a blob', (signal) => store.head(name, signal));
  const before = await head();
  if (before !== undefined) return sized(before, size);
  let failure: { readonly cause: unknown } | undefined;
  failpoint('commit.sync.before');
  try {
    if (size === 0) {
      await timed(REQUEST_MILLISECONDS, 'store a blob', (signal) => store.put(name, new Uint8Array(0), signal));
    } else {
      const sources = await withinLimit(parts, id, await largeEnough(parts, id, pieces, size));
      await joinSources(parts, id, sources, name);
    }
  } catch (cause) {
    if (cause instanceof StoreAway) throw cause;
    // The answer may be lost, or another commit of the same bytes may have come first.
    failure = { cause };
  }
  failpoint('commit.sync.after');
  const after = await head().catch((error: unknown) => {
    throw failure === undefined ? error : failure.cause;
  });
  if (after === undefined) {
    throw failure?.cause ?? fault('unavailable', 'store a blob', 'it is not there after it was stored');
  }
  return sized(after, size);
}

function sized(info: ObjectInfo, size: number): ObjectInfo {
  if (info.size === size) return info;
  throw new FaultError('corrupt', `An object of ${info.size} bytes stands where a blob of ${size} should be.`);
}

async function joinSources(
  { store, watched }: JoinParts,
  id: UploadId,
  sources: readonly JoinSource[],
  to: string,
): Promise<void> {
  const limit = 60_000 + requestLimit(sizeOf(sources)) / 4;
  failpoint('join.store.before');
  await watched(limit, 'join the pieces of an upload', (signal) =>
    store.join(to, sources, `${uploadPrefix(id)}scratch-${newWriter()}-`, signal),
  );
  failpoint('join.store.after');
}

/** Sources of which each but the last has the store's least size: neighbours are merged through memory where one has not. */
async function largeEnough(
  parts: JoinParts,
  id: UploadId,
  pieces: readonly Piece[],
  size: number,
): Promise<JoinSource[]> {
  const { minimumPart } = parts.store.limits;
  const { whole, partial } = cutAt(pieces, size);
  const items = whole.map((piece) => ({ name: pieceName(id, piece), size: piece.size, cut: false }));
  if (partial !== undefined) items.push({ name: pieceName(id, partial.piece), size: partial.length, cut: true });
  const groups: (typeof items)[] = [];
  for (let at = 0; at < items.length; ) {
    const group = [items[at++]!];
    while (at < items.length && sizeOf(group) < minimumPart) group.push(items[at++]!);
    groups.push(group);
  }
  const sources: JoinSource[] = [];
  for (const group of groups) {
    const [only] = group;
    if (group.length === 1 && !only!.cut) sources.push(only!);
    else sources.push(await merged(parts, id, group));
  }
  return sources;
}

/** Whose turn has not come need not wait for it where the store is away. */
function merged(parts: JoinParts, id: UploadId, group: readonly JoinSource[]): Promise<JoinSource> {
  return parts.watched(ANY_MILLISECONDS, 'store a piece of an upload', (signal) =>
    parts.merging(async () => {
      signal.throwIfAborted();
      return merge(parts, id, group);
    }),
  );
}

async function merge({ store, watched }: JoinParts, id: UploadId, group: readonly JoinSource[]): Promise<JoinSource> {
  const bytes = Buffer.allocUnsafeSlow(sizeOf(group));
  const starts: number[] = [];
  for (let at = 0, i = 0; i < group.length; i++) {
    starts.push(at);
    at += group[i]!.size;
  }
  const waiting = group.keys();
  const worker = async (): Promise<void> => {
    for (const i of waiting) {
      const { name, size } = group[i]!;
      let at = starts[i]!;
      for await (const chunk of await readObject(store, name, { start: 0, end: size })) {
        at += bytes.set(chunk as Uint8Array, at) ?? (chunk as Uint8Array).length;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(8, group.length) }, worker));
  const name = `${uploadPrefix(id)}merged-${newWriter()}`;
  failpoint('piece.merge.before');
  await watched(requestLimit(bytes.length), 'store a piece of an upload', (signal) => store.put(name, bytes, signal));
  failpoint('piece.merge.after');
  return { name, size: bytes.length };
}

/** At most as many sources as one join takes: beyond, neighbours are first joined into segments. */
async function withinLimit(
  parts: JoinParts,
  id: UploadId,
  sources: readonly JoinSource[],
): Promise<readonly JoinSource[]> {
  const { mostParts, largestPart } = parts.store.limits;
  if (sources.length <= mostParts) return sources;
  const segment = Math.min(SEGMENT, largestPart);
  const groups: JoinSource[][] = [[]];
  let size = 0;
  for (const source of sources) {
    const group = groups.at(-1)!;
    size += source.size;
    if (group.length === 0 || (group.length < mostParts && size <= segment)) group.push(source);
    else {
      groups.push([source]);
      size = source.size;
    }
  }
  if (groups.length > mostParts || groups.length >= sources.length) {
    throw fault('full', 'store a blob', 'it is larger than this store takes');
  }
  const joined: JoinSource[] = [];
  for (const group of groups) {
    if (group.length === 1) {
      joined.push(group[0]!);
      continue;
    }
    const name = `${uploadPrefix(id)}segment-${newWriter()}`;
    await joinSources(parts, id, group, name);
    joined.push({ name, size: sizeOf(group) });
  }
  return joined;
}

/** The pieces' bytes one after another. */
export async function* bytesOf(
  store: ObjectStore,
  id: UploadId,
  pieces: readonly Piece[],
  size: number,
): AsyncGenerator<Uint8Array> {
  const { whole, partial } = cutAt(pieces, size);
  for (const piece of whole) {
    yield* pieceBytes(store, id, piece, piece.size);
  }
  if (partial !== undefined) yield* pieceBytes(store, id, partial.piece, partial.length);
}

async function* pieceBytes(store: ObjectStore, id: UploadId, piece: Piece, length: number): AsyncGenerator<Uint8Array> {
  const stream = await readObject(store, pieceName(id, piece), { start: 0, end: length });
  try {
    yield* stream as AsyncIterable<Uint8Array>;
  } finally {
    stream.destroy();
  }
}

/** FaultError corrupt where the upload's last piece is not there: it was discarded, or is another's. */
export async function checkThere(store: ObjectStore, id: UploadId, pieces: readonly Piece[]): Promise<void> {
  const last = pieces.at(-1);
  if (last === undefined) return;
  const info = await timed(REQUEST_MILLISECONDS, 'look up an upload', (signal) =>
    store.head(pieceName(id, last), signal),
  );
  if (info === undefined) throw missing();
}
