/** PostgreSQL's values as the interface has them: safe integers, Uint8Arrays, 0 and 1. */
import { types } from 'pg';
import { FaultError } from '../../oci/error.ts';
import { checkNumber } from '../faults.ts';

const BOOL = 16;
const BYTEA = 17;
const INT8 = 20;
const NUMERIC = 1700;

function integer(text: string): number {
  const value = Number(text);
  checkNumber(value);
  return value;
}

function bytes(text: string): Uint8Array {
  if (!text.startsWith('\\x')) throw new FaultError('bug', 'PostgreSQL sent bytes in its old escape format.');
  const buffer = Buffer.from(text.slice(2), 'hex');
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);
}

/** The parsers of a connection: its own, so that other users of the module are not changed. */
export const typeParsers = {
  getTypeParser(oid: number, format?: 'text' | 'binary'): (value: string) => unknown {
    if (format === 'binary') throw new FaultError('bug', 'Binary results are not read.');
    switch (oid) {
      case INT8:
      case NUMERIC:
        return integer;
      case BYTEA:
        return bytes;
      case BOOL:
        return (text) => (text === 't' ? 1 : 0);
      default:
        return types.getTypeParser(oid, 'text');
    }
  },
};

/** A value on its way to PostgreSQL. Throws FaultError `bug` for what the other database would refuse too. */
export function bind(value: unknown): string | number | bigint | Uint8Array | null {
  switch (typeof value) {
    case 'number':
      checkNumber(value);
      return value;
    case 'boolean':
      return value ? 1 : 0;
    case 'string':
    case 'bigint':
      return value;
    default:
      if (value === null || value instanceof Uint8Array) return value;
      throw new FaultError('bug', `A database value is of a type that does not exist there: ${typeof value}.`);
  }
}
