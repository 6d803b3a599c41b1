/**
 * The first half of a rebuild: what lies in storage becomes rows of blobs. Storage is listed shard by shard and in no
 * order; a page of keys is all that is held at a time.
 */
import { createHash } from 'node:crypto';
import type { Database, RunOptions } from '../database/database.ts';
import type { Clock } from '../kit/clock.ts';
import { failpoint } from '../kit/failpoint.ts';
import { randomId } from '../kit/id.ts';
import { blobKey, parseBlobKey } from '../oci/blob-key.ts';
import { algorithmOf, digestToBytes, hexOf } from '../oci/digest.ts';
import { FaultError } from '../oci/error.ts';
import type { BlobKey, Digest, UploadId } from '../oci/names.ts';
import type { BlobStorage, StoredBlob } from '../storage/storage.ts';
import {
  type FoundKey,
  type KeyRow,
  reindexFreshKey,
  reindexJournal,
  reindexKeys,
  reindexRescued,
} from './commands/reindex-keys.ts';
import { reindexShard } from './commands/reindex-state.ts';
import { readJournal } from './gc-journal.ts';
import type { Problem, ReindexReport } from './reindex-report.ts';

/** Keys of one command, and how many are read side by side. */
const PAGE = 256;
const AT_ONCE = 8;
/** Shards of a storage: the hash's first two hex digits. */
const SHARDS = 256;
/** How often a key is read before it counts as unreadable, and the pause between, milliseconds. */
const TRIES = 3;
const PAUSE = 500;
/** So many keys in succession that are wrong or unreadable mean that it is not the keys. */
const MOST_WRONG = 50;

/** What all parts of a rebuild work with. */
export interface ReindexWork {
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly clock: Clock;
  readonly report: ReindexReport;
  /** Under the lease of this run. */
  readonly options: RunOptions;
  readonly signal: AbortSignal;
  /** Goes on though most of what is read is wrong. */
  readonly force: boolean;
  problem(problem: Problem): void;
}

/** Loads the journal of dead keys. After the new epoch was written: a collector that still ran sees one or is seen. */
export async function loadJournal({ database, storage, options, signal }: ReindexWork): Promise<void> {
  let keys: KeyRow[] = [];
  const load = async (): Promise<void> => {
    if (keys.length > 0) await database.run(reindexJournal, { keys }, options);
    keys = [];
  };
  for await (const { key } of readJournal(storage.records)) {
    signal.throwIfAborted();
    const parsed = parseBlobKey(key);
    if (parsed === undefined) continue;
    keys.push({ digest: digestToBytes(parsed.digest), n: parsed.n });
    if (keys.length === PAGE) await load();
  }
  await load();
}

/** Makes the rows of all blobs from this shard on. */
export async function loadBlobs(work: ReindexWork, from: number, verify: boolean): Promise<void> {
  const { database, storage, report, options, signal } = work;
  const state = { inSuccession: 0 };
  // One page is written while the next one is read.
  let writing: Promise<unknown> = Promise.resolve();
  const write = async (page: readonly StoredBlob[]): Promise<void> => {
    const keys = await readPage(work, page, verify, state);
    await writing;
    writing = database.run(reindexKeys, { keys, verified: verify }, options).then((dead) => {
      report.dead += dead;
    });
    // Awaited above or below; a failure meanwhile is not one that nobody has heard of.
    writing.catch(() => undefined);
  };
  for (let shard = from; shard < SHARDS; shard++) {
    let page: StoredBlob[] = [];
    for await (const stored of storage.list(shard.toString(16).padStart(2, '0'))) {
      signal.throwIfAborted();
      page.push(stored);
      if (page.length < PAGE) continue;
      await write(page);
      page = [];
    }
    if (page.length > 0) await write(page);
    await writing;
    await database.run(reindexShard, { verify, shard: shard + 1 }, options);
    failpoint('reindex.shard.after');
  }
}

async function readPage(
  work: ReindexWork,
  page: readonly StoredBlob[],
  verify: boolean,
  state: { inSuccession: number },
): Promise<FoundKey[]> {
  const { report } = work;
  const found: FoundKey[] = [];
  const waiting = page.values();
  const worker = async (): Promise<void> => {
    for (const stored of waiting) {
      const parsed = parseBlobKey(stored.key);
      if (parsed === undefined) continue;
      const { digest, n } = parsed;
      const result = verify ? await readKey(work, stored.key, digest) : ({ found: 'good', size: stored.size } as const);
      report.keys++;
      if (verify) report.bytes += result.size;
      if (result.found !== 'good') {
        if (result.found === 'bad') report.wrong++;
        else report.unreadable++;
        work.problem({
          what:
            result.found === 'bad'
              ? `${stored.key} does not have the bytes that its name says`
              : `${stored.key} cannot be read`,
          lost: false,
        });
      }
      state.inSuccession = result.found === 'good' ? 0 : state.inSuccession + 1;
      if (state.inSuccession >= MOST_WRONG && !work.force) {
        throw new FaultError(
          'corrupt',
          `The last ${MOST_WRONG} blobs that were read are all wrong or unreadable: look at the storage, its credentials and its settings. Go on all the same with --force.`,
        );
      }
      found.push({
        digest: digestToBytes(digest),
        n,
        size: result.found === 'good' ? result.size : stored.size,
        found: result.found,
      });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return found;
}

/** Reads a key and compares its hash. Throws FaultError where it is the storage that fails, not this key. */
async function readKey(
  { storage, clock, signal }: ReindexWork,
  key: BlobKey,
  digest: Digest,
): Promise<{ found: FoundKey['found']; size: number }> {
  let size = 0;
  for (let number = 1; ; number++) {
    signal.throwIfAborted();
    const hash = createHash(algorithmOf(digest));
    size = 0;
    try {
      for await (const chunk of await storage.read(key)) {
        hash.update(chunk as Uint8Array);
        size += (chunk as Uint8Array).length;
      }
      return { found: hash.digest('hex') === hexOf(digest) ? 'good' : 'bad', size };
    } catch (error) {
      if (!(error instanceof FaultError)) throw error;
      if (error.code === 'corrupt') return { found: 'unreadable', size };
      if (number < TRIES) {
        await clock.sleep(PAUSE, signal);
        continue;
      }
      await storage.ping();
      return { found: 'unreadable', size };
    }
  }
}

/**
 * Stores a blob again of which only dead keys have the bytes, under a fresh key: what is dead may be deleted at any
 * moment. Whether there was one with the right bytes.
 */
export async function rescue(work: ReindexWork, digest: Uint8Array, name: Digest): Promise<boolean> {
  const { database, storage, options, signal } = work;
  const dead = await database.query.all<{ n: number }>(
    'select n from dead_key where digest = ? and confirmed = 0 order by n desc limit 100',
    digest,
  );
  for (const { n } of dead) {
    const from = blobKey(name, n);
    if ((await readKey(work, from, name)).found !== 'good') continue;
    const fresh = await database.run(reindexFreshKey, { digest }, options);
    const id = Buffer.from(randomId(16)).toString('hex') as UploadId;
    const key = blobKey(name, fresh);
    const begun = await storage.begin(id, { key });
    const hash = createHash(algorithmOf(name));
    const at = await storage.append(id, begun, await storage.read(from), {
      signal,
      hash: { update: (bytes) => void hash.update(bytes) },
    });
    const right = hash.digest('hex') === hexOf(name);
    if (right) {
      await storage.commit(id, at, key);
      await database.run(reindexRescued, { digest, n: fresh, size: at.size }, options);
    }
    await storage.discard(id, at.state);
    if (right) return true;
  }
  return false;
}
