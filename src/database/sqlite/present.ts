/**
 * Whether the database's files still stand under their names. A file that was moved away or replaced takes writes all
 * the same, through the descriptor that is open: they would be acknowledged, and gone with the process.
 */
import { type Stats, statSync } from 'node:fs';
import { FaultError } from '../../oci/error.ts';
import type { Files } from './migrate.ts';

/** Which file stood under a name. */
interface Identity {
  readonly dev: number;
  readonly ino: number;
}

/** The two files as they were when the database was opened. Plain data: threads get it too. */
export interface Present {
  readonly main: Identity;
  readonly side: Identity;
}

function identityOf(file: string): Identity | undefined {
  let state: Stats | undefined;
  try {
    state = statSync(file, { throwIfNoEntry: false });
  } catch (cause) {
    throw new FaultError('unavailable', `${nameOf(file)} cannot be reached: check the data folder and its mount.`, {
      cause,
    });
  }
  return state === undefined ? undefined : { dev: state.dev, ino: state.ino };
}

function nameOf(file: string): string {
  return file.slice(file.lastIndexOf('/') + 1);
}

function missing(file: string): FaultError {
  return new FaultError(
    'unavailable',
    `The database file ${nameOf(file)} is gone from the data folder: put it back, or stop Longshore and restore it.`,
  );
}

/** The files as they stand now. FaultError where one is missing. */
export function presentFiles(files: Files): Present {
  const [main, side] = [identityOf(files.path), identityOf(files.sidePath)];
  if (main === undefined) throw missing(files.path);
  if (side === undefined) throw missing(files.sidePath);
  return { main, side };
}

/** FaultError `unavailable` where a file is gone or another stands in its place. A few microseconds. */
export function checkPresent(files: Files, present: Present): void {
  check(files.path, present.main);
  check(files.sidePath, present.side);
}

/** The same for the first file alone. */
export function checkMain(path: string, present: Present): void {
  check(path, present.main);
}

function check(file: string, known: Identity): void {
  const now = identityOf(file);
  if (now === undefined) throw missing(file);
  if (now.ino === known.ino && now.dev === known.dev) return;
  throw new FaultError(
    'unavailable',
    `The database file ${nameOf(file)} was replaced while Longshore runs: put the old one back, or restart it.`,
  );
}
