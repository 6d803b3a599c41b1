/**
 * Lines in records: how a dump and a list of blobs lie in a place for backups. A stream of lines is cut into pieces
 * wherever 2 MiB are full, each compressed with zstd, so that no row is too long for a record. A piece's name and hash
 * stand in its backup's point.
 */
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { zstdCompress, zstdDecompress } from 'node:zlib';
import type { Value } from '../database/database.ts';
import { FaultError } from '../oci/error.ts';
import type { Records } from '../storage/storage.ts';

/** A piece as the point names it. `sha256`: of the record's bytes. */
export interface Piece {
  readonly record: string;
  readonly sha256: string;
}

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
const PIECE_BYTES = 2 * 1024 * 1024;
const MOST_PLAIN = PIECE_BYTES;
/** Most bytes of a line: the largest manifest in base64 with room to spare. A piece may be named many times. */
const MOST_LINE = 32 * 1024 * 1024;

/** Writes lines under `prefix`. `end` gives the pieces. */
export interface LineWriter {
  write(line: string): Promise<void>;
  end(): Promise<readonly Piece[]>;
}

/** A writer of one stream; `prefix` as in `dumps/ID/table`. */
export function lineWriter(records: Records, prefix: string): LineWriter {
  const pieces: Piece[] = [];
  let waiting: Buffer[] = [];
  let length = 0;
  const put = async (plain: Buffer): Promise<void> => {
    const record = `${prefix}-${String(pieces.length).padStart(6, '0')}.zst`;
    const bytes = await compress(plain);
    await records.put(record, bytes);
    pieces.push({ record, sha256: hashOf(bytes) });
  };
  return {
    async write(line) {
      const bytes = Buffer.from(`${line}\n`);
      waiting.push(bytes);
      length += bytes.length;
      if (length < PIECE_BYTES) return;
      const whole = Buffer.concat(waiting);
      const cut = whole.length - (whole.length % PIECE_BYTES);
      for (let at = 0; at < cut; at += PIECE_BYTES) await put(whole.subarray(at, at + PIECE_BYTES));
      waiting = cut === whole.length ? [] : [Buffer.from(whole.subarray(cut))];
      length = whole.length - cut;
    },
    async end() {
      if (length > 0) await put(Buffer.concat(waiting));
      return pieces;
    },
  };
}

/** A piece's bytes as they lie there. FaultError `corrupt` where it is missing or another one. */
export async function readPiece(records: Records, { record, sha256 }: Piece): Promise<Uint8Array> {
  const bytes = await records.get(record);
  if (bytes === undefined) throw new FaultError('corrupt', `The backup's record ${record} is missing.`);
  if (hashOf(bytes) !== sha256)
    throw new FaultError('corrupt', `The backup's record ${record} is damaged: its hash is another one.`);
  return bytes;
}

/** The lines of a stream. FaultError `corrupt`. */
export async function* readLines(records: Records, pieces: readonly Piece[]): AsyncGenerator<string> {
  let rest: Buffer[] = [];
  let waiting = 0;
  for (const piece of pieces) {
    const stored = await readPiece(records, piece);
    let bytes: Buffer;
    try {
      bytes = await decompress(stored, { maxOutputLength: MOST_PLAIN });
    } catch (cause) {
      throw new FaultError('corrupt', `The backup's record ${piece.record} cannot be unpacked.`, { cause });
    }
    let at = 0;
    for (let end = bytes.indexOf(10, at); end >= 0; end = bytes.indexOf(10, at)) {
      const line = bytes.subarray(at, end);
      at = end + 1;
      if (rest.length === 0) yield line.toString('utf8');
      else yield Buffer.concat([...rest, line]).toString('utf8');
      rest = [];
      waiting = 0;
    }
    if (at === bytes.length) continue;
    rest.push(bytes.subarray(at));
    waiting += bytes.length - at;
    if (waiting > MOST_LINE) throw new FaultError('corrupt', 'A line of a backup is longer than any that was written.');
  }
  if (rest.length > 0) throw new FaultError('corrupt', 'A backup ends in the middle of a line.');
}

/** A row as a line: JSON, bytes as `{"b":"base64"}`. */
export function rowToLine(values: readonly Value[]): string {
  return JSON.stringify(
    values.map((value) =>
      value instanceof Uint8Array
        ? { b: Buffer.from(value.buffer, value.byteOffset, value.length).toString('base64') }
        : value,
    ),
  );
}

/** The row of a line. FaultError `corrupt` where it is none of so many values. */
export function lineToRow(line: string, columns: number): Value[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch (cause) {
    throw new FaultError('corrupt', 'A row of the backup cannot be read.', { cause });
  }
  if (!Array.isArray(parsed) || parsed.length !== columns)
    throw new FaultError('corrupt', 'A row of the backup has other columns than its table.');
  return parsed.map((value: unknown): Value => {
    if (value === null || typeof value === 'string' || typeof value === 'number') return value;
    const { b } = value as { b?: unknown };
    if (typeof b !== 'string') throw new FaultError('corrupt', 'A value of the backup cannot be read.');
    return new Uint8Array(Buffer.from(b, 'base64'));
  });
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
