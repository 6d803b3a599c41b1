/**
 * Whether the storage's folder is still the one that was opened. Where it was moved away, or its disk is not mounted,
 * another or an empty folder stands in its place: nothing there means nothing, and nothing may be written into it. A
 * mark, a small file with a random name in it, tells the folder again after it was mounted anew or copied.
 */
import path from 'node:path';
import { randomId } from '../../kit/id.ts';
import type { Log } from '../../kit/log.ts';
import { FaultError } from '../../oci/error.ts';
import { errno } from '../faults.ts';
import { FLAGS, type Operations } from './operations.ts';

/** The mark's name under the root. */
export const MARK = 'storage-id';
const MARK_BYTES = 64;

/** The folder as it was opened. */
export interface Home {
  /** Learns which folder it is, and marks it where it has no mark yet. Called once, at the opening. */
  learn(): Promise<void>;
  /** FaultError `unavailable` where another folder, or none, stands there. Does nothing before `learn`. */
  check(): Promise<void>;
  /** Whether the error says that something is missing, and it is so: FaultError where all of the storage is. */
  isMissing(error: unknown): Promise<boolean>;
}

/** The folder at `root`. `tops`: folders in it that are never made again once it was opened. */
export function home(root: string, tops: readonly string[], operations: Operations, log: Log): Home {
  let known: { device: number; inode: number } | undefined;
  let mark: string | undefined;

  async function readMark(): Promise<string | undefined> {
    let fd: number;
    try {
      fd = await operations.open(path.join(root, MARK), FLAGS.read);
    } catch (error) {
      if (errno(error) === 'ENOENT') return undefined;
      throw error;
    }
    try {
      const bytes = new Uint8Array(MARK_BYTES);
      const count = await operations.read(fd, bytes, 0, bytes.length, 0);
      return Buffer.from(bytes.subarray(0, count)).toString('latin1').trim() || undefined;
    } finally {
      await operations.close(fd).catch(() => undefined);
    }
  }

  async function writeMark(): Promise<string | undefined> {
    const text = Buffer.from(`${Buffer.from(randomId(16)).toString('hex')}\n`);
    const aside = path.join(root, `${MARK}.${Buffer.from(randomId(6)).toString('hex')}.tmp`);
    try {
      const fd = await operations.open(aside, FLAGS.create, 0o600);
      try {
        await operations.write(fd, text, 0, text.length, 0);
        await operations.syncData(fd);
      } finally {
        await operations.close(fd);
      }
      // Not over the mark of another process that opens the same folder now.
      await operations.link(aside, path.join(root, MARK)).catch((error: unknown) => {
        if (errno(error) !== 'EEXIST') throw error;
      });
    } finally {
      await operations.unlink(aside).catch(() => undefined);
    }
    return readMark();
  }

  async function stateOf(folder: string): Promise<{ device: number; inode: number }> {
    try {
      return await operations.stateOf(folder);
    } catch (error) {
      if (errno(error) !== 'ENOENT' && errno(error) !== 'ENOTDIR') throw error;
      throw new FaultError(
        'unavailable',
        'The storage folder is gone: put it back, or check that its disk is mounted.',
        { cause: error },
      );
    }
  }

  async function check(): Promise<void> {
    if (known === undefined) return;
    const { device, inode } = await stateOf(root);
    if (device === known.device && inode === known.inode) return;
    if (mark === undefined || (await readMark()) !== mark) {
      throw new FaultError(
        'unavailable',
        'Another folder stands where the storage was: put the right one back, or check that its disk is mounted.',
      );
    }
    known = { device, inode };
  }

  return {
    check,
    async learn() {
      try {
        mark = (await readMark()) ?? (await writeMark());
      } catch (error) {
        log.warn('the storage folder could not be marked; it is told by its number alone', { error: error as Error });
      }
      const { device, inode } = await stateOf(root);
      known = { device, inode };
    },
    async isMissing(error) {
      if (errno(error) !== 'ENOENT' && errno(error) !== 'ENOTDIR') return false;
      await check();
      if (known !== undefined) for (const top of tops) await stateOf(top);
      return errno(error) === 'ENOENT';
    },
  };
}
