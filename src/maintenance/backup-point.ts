/**
 * Whether what was read is a backup's point. Its sum only tells that it is whole, not who wrote it: a place may have
 * been filled by somebody else, and what a point says becomes names of records, tables and columns, and is printed.
 */
import { isDigest } from '../oci/digest.ts';
import { isRecordName } from '../storage/names.ts';

/** As the schema's own tables and columns are. */
const IDENTIFIER = /^[a-z][a-z0-9_]{0,62}$/;
/** Printed as it is. */
const WORD = /^[\x20-\x7e]{1,128}$/;
const SHA256 = /^[0-9a-f]{64}$/;

type Fields = Readonly<Record<string, unknown>>;

/** Whether it has the shape of the point of that id, and every name in it is one. */
export function isPoint(id: string, value: unknown): boolean {
  if (!isFields(value)) return false;
  const { tables, blobs, missing } = value;
  return (
    value.format === 1 &&
    value.id === id &&
    (value.database === 'sqlite' || value.database === 'postgres') &&
    [value.at, value.schema, value.epoch, value.tick, value.missingCount].every(isCount) &&
    [value.program, value.schemaName, value.installation].every(
      (text) => typeof text === 'string' && WORD.test(text),
    ) &&
    typeof value.complete === 'boolean' &&
    isAll(missing, (text) => typeof text === 'string' && isDigest(text)) &&
    isFields(blobs) &&
    [blobs.count, blobs.bytes].every(isCount) &&
    isPieces(id, blobs.pieces) &&
    isAll(tables, (table) => isTable(id, table))
  );
}

function isTable(id: string, table: unknown): boolean {
  if (!isFields(table)) return false;
  const { counter } = table;
  return (
    isIdentifier(table.name) &&
    isCount(table.rows) &&
    isAll(table.columns, isIdentifier) &&
    (counter === undefined || (isFields(counter) && isIdentifier(counter.column) && isCount(counter.value))) &&
    isPieces(id, table.pieces)
  );
}

/** Pieces lie in the point's own folder: another point's may go with that one. */
function isPieces(id: string, pieces: unknown): boolean {
  return isAll(
    pieces,
    (piece) =>
      isFields(piece) &&
      typeof piece.record === 'string' &&
      piece.record.startsWith(`dumps/${id}/`) &&
      isRecordName(piece.record) &&
      typeof piece.sha256 === 'string' &&
      SHA256.test(piece.sha256),
  );
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isAll(value: unknown, check: (one: unknown) => boolean): boolean {
  return Array.isArray(value) && value.every(check);
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isIdentifier(value: unknown): boolean {
  return typeof value === 'string' && IDENTIFIER.test(value);
}
