/**
 * Healing: the bytes of damaged blobs are fetched from other places and stored under a new key by the way of every push:
 * reserve, make durable, make live. Nothing is believed before it was hashed, and nothing is written over. The blob's
 * own key is looked at first: a storage that was away for a while comes back with its bytes.
 */
import type { Database } from '../database/database.ts';
import type { Job, JobGiver } from '../jobs/job.ts';
import type { Clock } from '../kit/clock.ts';
import { failpoint } from '../kit/failpoint.ts';
import { createHasher } from '../kit/hash-stream.ts';
import { randomId } from '../kit/id.ts';
import type { Log } from '../kit/log.ts';
import { blobReserve } from '../local/commands/blob-commands.ts';
import { blobKey } from '../oci/blob-key.ts';
import { algorithmOf, digestFromBytes, digestFromHex, digestOf } from '../oci/digest.ts';
import type { Digest, UploadId } from '../oci/names.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { healClaim, healFailed, healInline, healRevive, healStored, type Patient } from './commands/heal-blob.ts';
import type { HealingSource } from './healing-source.ts';
import { checkStored, readWhole } from './scrub-check.ts';
import type { TrustMeasures } from './scrub-measures.ts';
import { countDamaged } from './scrub-status.ts';

/** What it is made of. */
export interface HealerParts {
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly clock: Clock;
  readonly log: Log;
  readonly measures: TrustMeasures;
  /** Asked in this order. */
  readonly sources: readonly HealingSource[];
  /** Milliseconds without a byte after which a source is given up; 60,000 if absent. */
  readonly stallMilliseconds?: number;
}

/** What a step did. */
export interface Healed {
  readonly healed: number;
  /** Damaged blobs that no source had. */
  readonly failed: number;
  /** More are due. */
  readonly more: boolean;
}

/** Heals. */
export interface Healer {
  /** Takes a few damaged blobs that are due and asks the sources for them; ends early when aborted. */
  step(signal: AbortSignal): Promise<Healed>;
  /** Lets go of the sources. */
  close(): Promise<void>;
}

/** Blobs of one step, and how many side by side. */
const PATIENTS = 16;
const AT_ONCE = 4;
/** Bytes of at most this many are made live inline, in one commit; manifests are always, up to the limit of a manifest. */
const INLINE = 32 * 1024;
const MOST_MANIFEST = 4 * 1024 * 1024;
/** When sources are asked again: after a minute, then twice as long each time, at most after an hour. */
const AGAIN = 60_000;
const MOST_AGAIN = 3_600_000;
const ATTEMPTS = 3;

/** Heals what is damaged in this database and storage. */
export function healer(parts: HealerParts): Healer {
  const { database, storage, clock, log, measures, sources } = parts;
  const stall = parts.stallMilliseconds ?? 60_000;
  const lane = { lane: 'job' } as const;
  /** At the start nobody else can hold any where this process has the database for itself; and sources may be new. */
  let all = !database.shared;

  /** Whether it is whole again. */
  async function heal(patient: Patient, signal: AbortSignal): Promise<boolean> {
    const digest = digestFromBytes(patient.digest);
    const refused: string[] = [];
    if (await ownBytes(patient, digest, signal)) {
      measures.healed(1, { from: 'storage' });
      log.info('a damaged blob is whole again: its own bytes are back', { digest });
      return true;
    }
    for (const source of sources) {
      if (signal.aborted) break;
      try {
        const found = await from(source, patient, digest, signal);
        if (found === 'healed') {
          measures.healed(1, { from: source.name });
          log.info('a damaged blob was healed', { digest, from: source.name });
        }
        if (found !== undefined) return found === 'healed';
        refused.push(`${source.name}: has not got it`);
      } catch (error) {
        if (signal.aborted) break;
        refused.push(`${source.name}: ${reasonOf(error as Error)}`);
        log.warn('a source of healing could not be used', { digest, source: source.name, error: error as Error });
      }
    }
    if (signal.aborted) {
      // Whoever goes on begins with it.
      await database.run(healFailed, { digest: patient.digest, again: 0, outcome: 'broken off' }, lane);
      return false;
    }
    const again = Math.min(MOST_AGAIN, AGAIN * 2 ** Math.min(10, patient.attempts - 1));
    const outcome = refused.length === 0 ? 'no source is configured (heal)' : refused.join('; ');
    await database.run(healFailed, { digest: patient.digest, again, outcome }, lane);
    return false;
  }

  /** Whether the bytes under the key that the row still names are right by now. */
  async function ownBytes(patient: Patient, digest: Digest, signal: AbortSignal): Promise<boolean> {
    if (patient.n === null) return false;
    const key = blobKey(digest, patient.n);
    const { size, n } = patient;
    try {
      if (patient.manifest !== undefined) {
        const bytes = size <= MOST_MANIFEST ? await readWhole(storage, key, size) : undefined;
        if (bytes === undefined || digestOf(bytes, algorithmOf(digest)) !== digest) return false;
        return await database.run(healInline, { digest: patient.digest, bytes, from: 'storage' }, lane);
      }
      const turn = async (): Promise<void> => signal.throwIfAborted();
      const check = checkStored({ storage, key, digest, size, turn });
      for (;;) {
        const checked = await check.go(size + 1);
        if (checked.state === 'damaged') return false;
        if (checked.state === 'whole') return await database.run(healRevive, { digest: patient.digest, n, size }, lane);
      }
    } catch (error) {
      if (!signal.aborted) log.debug('the own bytes of a damaged blob cannot be read', { key, error: error as Error });
      return false;
    }
  }

  /** Undefined: this source has not got it. `settled`: somebody else brought it back meanwhile. */
  async function from(
    source: HealingSource,
    patient: Patient,
    digest: Digest,
    signal: AbortSignal,
  ): Promise<'healed' | 'settled' | undefined> {
    const giveUp = new AbortController();
    const both = AbortSignal.any([signal, giveUp.signal]);
    const patience = watchdog(clock, stall, both);
    const { manifest, size } = patient;
    try {
      const options = { signal: both, ...(manifest === undefined ? {} : { manifest }) };
      const bytes = await patience(source.open(digest, size, patient.repositories, options));
      if (bytes === undefined) return undefined;
      const body = bounded(bytes, size, patience);
      const inline = manifest !== undefined ? size <= MOST_MANIFEST : size <= INLINE;
      const done = inline
        ? await inlineFrom(source.name, patient, digest, body)
        : await storedFrom(source.name, patient, digest, body, both);
      return done ? 'healed' : 'settled';
    } finally {
      giveUp.abort(new Error('the source is not needed any more'));
    }
  }

  async function inlineFrom(
    name: string,
    patient: Patient,
    digest: Digest,
    body: AsyncIterable<Uint8Array>,
  ): Promise<boolean> {
    const chunks: Buffer[] = [];
    for await (const chunk of body) chunks.push(Buffer.from(chunk));
    const bytes = new Uint8Array(Buffer.concat(chunks));
    expect(digest, digestOf(bytes, algorithmOf(digest)));
    failpoint('heal.live.before');
    const live = await database.run(healInline, { digest: patient.digest, bytes, from: name }, lane);
    failpoint('heal.live.after');
    return live;
  }

  async function storedFrom(
    name: string,
    patient: Patient,
    digest: Digest,
    body: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { size } = patient;
    const file = Buffer.from(randomId(18)).toString('base64url') as UploadId;
    const hasher = createHasher(algorithmOf(digest));
    let at = await storage.begin(file, { size });
    try {
      at = await storage.append(file, at, body, { signal, hash: hasher });
      expect(digest, digestFromHex(hasher.algorithm, hasher.digestHex()));
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const reserved = await database.run(blobReserve, { digest: patient.digest, size: at.size }, lane);
        if (reserved.live) return false;
        await storage.commit(file, at, blobKey(digest, reserved.n));
        failpoint('heal.live.before');
        const args = { digest: patient.digest, n: reserved.n, size: at.size, from: name };
        const live = await database.run(healStored, args, lane);
        failpoint('heal.live.after');
        if (live) return true;
      }
      throw new Error('the place of the blob changed under the healing several times');
    } finally {
      await storage.discard(file, at.state).catch((error: unknown) => {
        log.warn('could not remove the file of a healing', { digest, error: error as Error });
      });
    }
  }

  return {
    async step(signal) {
      const { patients, closed } = await database.run(healClaim, { limit: PATIENTS, all }, lane);
      all = false;
      const tally = { healed: 0, failed: 0 };
      const waiting = patients.values();
      const work = async (): Promise<void> => {
        for (const patient of waiting) {
          if (signal.aborted) return;
          if (await heal(patient, signal)) tally.healed++;
          else tally.failed++;
        }
      };
      await Promise.all(Array.from({ length: Math.min(AT_ONCE, patients.length) }, work));
      measures.open(await countDamaged(database));
      return { ...tally, more: patients.length + closed === PATIENTS };
    },
    async close() {
      for (const source of sources) await source.close?.();
    },
  };
}

/** An append that broke off says only that; why is in its cause. */
function reasonOf(error: Error): string {
  return error.name === 'UploadBroken' && error.cause instanceof Error ? error.cause.message : error.message;
}

function expect(digest: Digest, actual: Digest): void {
  if (actual !== digest) throw new Error(`it gave bytes that hash to ${actual}`);
}

/** What is awaited through it must come within so many milliseconds. The source's own promise is left behind then. */
type Patience = <T>(work: Promise<T>) => Promise<T>;

function watchdog(clock: Clock, milliseconds: number, signal: AbortSignal): Patience {
  return async (work) => {
    const over = new AbortController();
    const late = clock.sleep(milliseconds, AbortSignal.any([signal, over.signal])).then(
      () => {
        throw new Error(`it gave nothing for ${Math.round(milliseconds / 1000)} s`);
      },
      () => {
        signal.throwIfAborted();
        // Not late: the work has ended.
        return new Promise<never>(() => {});
      },
    );
    late.catch(() => {});
    work.catch(() => {});
    try {
      return await Promise.race([work, late]);
    } finally {
      over.abort();
    }
  };
}

/** The bytes as they come, each in time, and never more than there should be. Ends the source's iteration, without waiting for one that hangs. */
async function* bounded(
  bytes: AsyncIterable<Uint8Array>,
  size: number,
  patience: Patience,
): AsyncGenerator<Uint8Array> {
  const iterator = bytes[Symbol.asyncIterator]();
  let read = 0;
  try {
    for (;;) {
      const next = await patience(iterator.next());
      if (next.done === true) break;
      read += next.value.length;
      if (read > size) throw new Error(`it gave more than the ${size} bytes that the blob has`);
      yield next.value;
    }
    if (read < size) throw new Error(`it gave ${read} of ${size} bytes`);
  } finally {
    void iterator.return?.()?.catch(() => {});
  }
}

/** The job that heals: once a minute, and soon after damage was found. */
export function healJobs(healing: Healer): Pick<JobGiver, 'jobs' | 'on'> {
  const job: Job<undefined> = {
    type: 'heal',
    everyMilliseconds: 60_000,
    parse: () => undefined,
    concurrency: 1,
    maxAttempts: 1,
    leaseSeconds: 60,
    run: async ({ signal }) => {
      while (!signal.aborted && (await healing.step(signal)).more);
    },
  };
  return { jobs: [job], on: { 'blob.damaged': () => [{ type: job.type, key: 'damage', payload: null }] } };
}
