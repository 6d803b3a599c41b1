/**
 * Of which objects an upload consists, and how its state says so in few bytes. A piece is an object
 * `uploads/<id>/<writer>-<number>`: the writer is random for each append, so that no name is ever written twice with
 * different bytes, whatever arrives late. Pieces of one size and writer that follow one another are a run; runs that
 * do not fit into the state go into an object of their own, the index.
 */
import { randomId } from '../../kit/id.ts';
import { FaultError } from '../../oci/error.ts';
import type { UploadId } from '../../oci/names.ts';
import type { UploadState } from '../storage.ts';

/** A stored piece. `name` is the object's whole name, `size` its bytes. */
export interface Piece {
  readonly writer: string;
  readonly number: number;
  readonly size: number;
}

/** An upload as its state describes it. */
export interface Pieces {
  readonly all: readonly Piece[];
  readonly size: number;
  /** The index, and how many of the first pieces it names. */
  readonly index?: { readonly writer: string; readonly count: number } | undefined;
}

/** Most pieces of an upload: more come only of very many very small PATCHes. */
export const MOST_PIECES = 100_000;
/** Characters of runs in a state. The state's other members and quotes are fewer than 500. */
const MOST_INLINE = 2500;
const RUN = /^([A-Za-z0-9_-]{8})\.([0-9a-z]{1,6})\.([0-9a-z]{1,6})\.([0-9a-z]{1,8})$/;
const WRITER = /^[A-Za-z0-9_-]{8}$/;

/** A name for one writer, or one object, that nobody else has. */
export function newWriter(): string {
  return Buffer.from(randomId(6)).toString('base64url');
}

/** Below it lies everything of this upload. */
export function uploadPrefix(id: UploadId): string {
  return `uploads/${id}/`;
}

/** The object's name of a piece. */
export function pieceName(id: UploadId, piece: Piece): string {
  return `${uploadPrefix(id)}${piece.writer}-${piece.number}`;
}

/** The object's name of an index. */
export function indexName(id: UploadId, writer: string): string {
  return `${uploadPrefix(id)}index-${writer}`;
}

/** The state of an upload without bytes. */
export const EMPTY: UploadState = { v: 1, size: 0, runs: '' };

/** What the state says; the index is fetched with `read`. FaultError corrupt where no upload wrote it. */
export async function parseState(state: UploadState, read: (writer: string) => Promise<string>): Promise<Pieces> {
  const { v, size, runs, index } = state;
  if (v !== 1 || typeof size !== 'number' || typeof runs !== 'string') {
    throw new FaultError('corrupt', "An upload's bytes are missing. Push it again.");
  }
  if (index !== undefined && (typeof index !== 'string' || !WRITER.test(index))) throw unreadable();
  const indexed = index === undefined ? [] : parseRuns(await read(index));
  const all = [...indexed, ...parseRuns(runs)];
  if (all.length > MOST_PIECES || sizeOf(all) !== size) throw unreadable();
  return { all, size, index: index === undefined ? undefined : { writer: index, count: indexed.length } };
}

function unreadable(): FaultError {
  return new FaultError('corrupt', "An upload's state is not one that Longshore wrote. Push it again.");
}

function parseRuns(text: string): Piece[] {
  const pieces: Piece[] = [];
  if (text === '') return pieces;
  for (const run of text.split(',')) {
    const parsed = RUN.exec(run);
    if (parsed === null) throw unreadable();
    const [first, count, size] = [parsed[2], parsed[3], parsed[4]].map((digits) => Number.parseInt(digits!, 36));
    if (count! + pieces.length > MOST_PIECES || size === 0) throw unreadable();
    for (let i = 0; i < count!; i++) pieces.push({ writer: parsed[1]!, number: first! + i, size: size! });
  }
  return pieces;
}

function writeRuns(pieces: readonly Piece[]): string {
  const runs: string[] = [];
  for (let at = 0; at < pieces.length; ) {
    const { writer, number, size } = pieces[at]!;
    let count = 1;
    for (let next = pieces[at + count]; next !== undefined; next = pieces[at + count]) {
      if (next.writer !== writer || next.size !== size || next.number !== number + count) break;
      count++;
    }
    runs.push(`${writer}.${number.toString(36)}.${count.toString(36)}.${size.toString(36)}`);
    at += count;
  }
  return runs.join(',');
}

/** The state of these pieces; where they need a new index it is stored with `write` first. FaultError full where they are too many. */
export async function writeState(
  pieces: readonly Piece[],
  before: Pieces,
  write: (writer: string, text: string) => Promise<void>,
): Promise<UploadState> {
  if (pieces.length > MOST_PIECES) {
    throw new FaultError('full', 'An upload came in more pieces than can be kept. Push it again in larger chunks.');
  }
  const size = sizeOf(pieces);
  const { index } = before;
  const kept = index !== undefined && startsWith(pieces, before.all, index.count) ? index : undefined;
  const runs = writeRuns(kept === undefined ? pieces : pieces.slice(kept.count));
  if (runs.length <= MOST_INLINE) {
    return { v: 1, size, runs, ...(kept === undefined ? {} : { index: kept.writer }) };
  }
  const writer = newWriter();
  await write(writer, writeRuns(pieces));
  return { v: 1, size, runs: '', index: writer };
}

function startsWith(pieces: readonly Piece[], before: readonly Piece[], count: number): boolean {
  if (pieces.length < count) return false;
  for (let i = 0; i < count; i++) if (pieces[i] !== before[i]) return false;
  return true;
}

/** Bytes of the pieces. */
export function sizeOf(pieces: readonly { readonly size: number }[]): number {
  let size = 0;
  for (const piece of pieces) size += piece.size;
  return size;
}

/** The pieces before `size`, and how many bytes of the one in which `size` falls still count. */
export function cutAt(
  pieces: readonly Piece[],
  size: number,
): { readonly whole: Piece[]; readonly partial?: { readonly piece: Piece; readonly length: number } } {
  const whole: Piece[] = [];
  let left = size;
  for (const piece of pieces) {
    if (left === 0) break;
    if (piece.size > left) return { whole, partial: { piece, length: left } };
    whole.push(piece);
    left -= piece.size;
  }
  return { whole };
}
