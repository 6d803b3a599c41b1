/**
 * Room on the storage's disk. A little is kept back from pushes, so that what makes room again (deletes, the journal
 * of the collector, the database on the same disk) still can be written.
 */
import type { Clock } from '../../kit/clock.ts';
import { FaultError } from '../../oci/error.ts';
import type { Operations } from './operations.ts';

/** Kept back: a sixteenth of the file system, at most so many bytes. The database keeps back half as much. */
const SHARE = 16;
const MOST = 64 * 1024 * 1024;
/** How long a look is trusted, milliseconds; what is written here meanwhile is counted, what others write is not. */
const TRUSTED = 1_000;
/** The same while less is left than others could take in `TRUSTED`. */
const CLOSELY_TRUSTED = 20;
const CLOSE = 1024 * 1024 * 1024;

/** Room for what is pushed. */
export interface Room {
  /** Takes so many bytes of it; a promise only where the disk has to be asked. FaultError `full`. */
  take(bytes: number): Promise<void> | undefined;
  /** FaultError `full` where so much would not fit at all; takes nothing. */
  expect(bytes: number): Promise<void>;
}

/** The room of the file system that holds `root`. Without bounds where the system does not tell. */
export function room(root: string, operations: Operations, clock: Clock): Room {
  let left = 0;
  let looked = Number.NEGATIVE_INFINITY;
  let looking: Promise<void> | undefined;

  async function look(): Promise<void> {
    try {
      const { free, total } = await operations.space(root);
      left = total === 0 ? Number.POSITIVE_INFINITY : free - Math.min(MOST, total / SHARE);
    } catch {
      // The write that follows meets the same trouble and reports it.
      left = Number.POSITIVE_INFINITY;
    }
    looked = clock.monotonic();
    looking = undefined;
  }

  const isFresh = (): boolean => clock.monotonic() - looked < (left < CLOSE ? CLOSELY_TRUSTED : TRUSTED);

  async function takeAfterLook(bytes: number): Promise<void> {
    looking ??= look();
    await looking;
    if (left < bytes) throw full();
    left -= bytes;
  }

  return {
    take(bytes) {
      if (left >= bytes && isFresh()) {
        left -= bytes;
        return undefined;
      }
      return takeAfterLook(bytes);
    },
    async expect(bytes) {
      if (left >= bytes && isFresh()) return;
      looking ??= look();
      await looking;
      if (left < bytes) throw full();
    },
  };
}

function full(): FaultError {
  return new FaultError(
    'full',
    'The disk of the storage is nearly full, so nothing is pushed: delete images, free some space or give it a larger disk.',
    { retryAfterSeconds: 5 },
  );
}
