/** An installation in small for the collector's tests: a database, a storage in memory, a store and a collector. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { COMMANDS } from '../commands.ts';
import { script } from '../database/commands.testing.ts';
import type { Database, Ticks, Value } from '../database/database.ts';
import type { Opened, TestOptions } from '../database/open.testing.ts';
import { systemClock } from '../kit/clock.ts';
import { noMetrics, silentLog } from '../kit/log.ts';
import { tickForward } from '../local/commands/house-keeping.ts';
import { type Local, openLocal } from '../local/open.ts';
import { blobKey } from '../oci/blob-key.ts';
import { digestOf, digestToBytes } from '../oci/digest.ts';
import { OCI_INDEX, OCI_MANIFEST } from '../oci/media-types.ts';
import type { Digest, RepositoryName, Tag } from '../oci/names.ts';
import type { Call } from '../registry/call.ts';
import { memoryStorage } from '../storage/memory.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { expireUploads } from './expire.ts';
import { type Collected, type Collector, type CollectorSettings, collector } from './gc.ts';
import { spill } from './spill.ts';

/** How the database is opened; what the tests have in hand. */
export type OpenDatabase = (options: TestOptions) => Promise<Opened>;

/** Grace and undelete window of these tests. */
export const TICKS: Ticks = { grace: 4, undelete: 8, uploadLifetime: 3 };

/** A call of somebody. */
export const CALL: Call = {
  principal: { kind: 'user', id: 'user:1', name: 'ann' },
  requestId: 'gc',
  signal: new AbortController().signal,
};

/** An image with its two blobs. */
export interface Pushed {
  readonly digest: Digest;
  readonly blobs: readonly Digest[];
}

/** Everything, and short ways to use it. */
export interface Small {
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly store: Local;
  readonly collector: Collector;
  /** Lets so many ticks pass. */
  tick(count: number): Promise<void>;
  /** Steps until there is nothing to do; the sum. */
  collect(collecting?: Collector): Promise<Collected>;
  spill(): Promise<void>;
  expire(): Promise<void>;
  sql(text: string, ...values: readonly Value[]): Promise<void>;
  rows<Row>(text: string, ...values: readonly Value[]): Promise<Row[]>;
  pushBlob(repository: string, text: string): Promise<Digest>;
  pushImage(repository: string, text: string, tag?: string): Promise<Pushed>;
  pushIndex(repository: string, children: readonly Digest[]): Promise<Digest>;
  keys(): Promise<string[]>;
  another(settings: Partial<CollectorSettings>): Collector;
}

/** Opens one, hands it over and closes it. */
export async function small(open: OpenDatabase, work: (small: Small) => Promise<void>): Promise<void> {
  const { database, stop } = await open({
    commands: [...COMMANDS, script],
    writer: new URL('./writer.testing.ts', import.meta.url),
    ticks: TICKS,
  });
  const storage = memoryStorage();
  const parts = { database, storage, clock: systemClock, log: silentLog, metrics: noMetrics };
  const store = await openLocal({ ...parts, sparse: 'none', tickMilliseconds: 3_600_000, movesTick: false });
  const settings: CollectorSettings = { deleteAfterTicks: 2, sweepTicks: 1_000_000, haltShare: 1 };
  const { signal } = new AbortController();
  const another = (changed: Partial<CollectorSettings>): Collector =>
    collector({ ...parts, settings: { ...settings, ...changed } });
  const own = another({});
  const name = (text: string): RepositoryName => text as RepositoryName;
  const pushBlob = async (repository: string, text: string): Promise<Digest> => {
    const bytes = Buffer.from(text);
    const digest = digestOf(bytes);
    const body = Readable.from([bytes], { objectMode: false });
    await store.pushBlob(CALL, name(repository), { digest, size: bytes.length }, body);
    return digest;
  };
  const pushManifest = async (repository: string, value: object, type: string, tags: Tag[]): Promise<Digest> => {
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: type, ...value }));
    return (await store.pushManifest(CALL, name(repository), bytes, type, { tags })).descriptor.digest;
  };
  try {
    await work({
      database,
      storage,
      store,
      collector: own,
      another,
      async tick(count) {
        for (let passed = 0; passed < count; passed++) {
          const row = await database.query.get<{ tick: number }>('select tick from gc_clock where id = 1');
          await database.run(tickForward, { seen: row?.tick ?? 0 });
        }
      },
      async collect(collecting = own) {
        const sum = { unlinked: 0, condemned: 0, purged: 0, deleted: 0, bytes: 0, orphans: 0, repositories: 0 };
        for (;;) {
          const { more, halted, ...done } = await collecting.step(signal);
          for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += done[key];
          if (!more) return { ...sum, more, ...(halted === undefined ? {} : { halted }) };
        }
      },
      async spill() {
        await spill(parts).run(100_000, signal);
      },
      async expire() {
        await expireUploads(parts, signal);
      },
      async sql(text, ...values) {
        await database.run(script, { steps: [{ text, values }] });
      },
      rows: (text, ...values) => database.query.all(text, ...values),
      pushBlob,
      async pushImage(repository, text, tag) {
        const config = await pushBlob(repository, `{"image":"${text}"}`);
        const layer = await pushBlob(repository, `layer ${text}`.padEnd(40_000, '.'));
        const described = (digest: Digest) => ({ mediaType: 'application/x', digest, size: 1 });
        const value = { config: described(config), layers: [described(layer)] };
        const digest = await pushManifest(repository, value, OCI_MANIFEST, tag === undefined ? [] : [tag as Tag]);
        return { digest, blobs: [config, layer] };
      },
      pushIndex: (repository, children) =>
        pushManifest(
          repository,
          { manifests: children.map((digest) => ({ mediaType: OCI_MANIFEST, digest, size: 1 })) },
          OCI_INDEX,
          [],
        ),
      async keys() {
        const keys: string[] = [];
        for await (const { key } of storage.list()) keys.push(key);
        return keys.sort();
      },
    });
  } finally {
    await store.close();
    await storage.close();
    await stop();
  }
}

/** So many blobs, stored and linked in one repository without a manifest, their reviews due: an installation that was never cleaned. */
export async function litter({ sql, rows, storage }: Small, repository: string, count: number): Promise<void> {
  const [row] = await rows<{ id: number }>('select id from repository where gone = 0 and name = ?', repository);
  const id = row?.id ?? 0;
  const bytes = Buffer.from('litter');
  for (let from = 0; from < count; from += 500) {
    const some = Array.from({ length: Math.min(500, count - from) }, (_, index) => {
      const hex = createHash('sha256')
        .update(String(from + index))
        .digest('hex');
      return `sha256:${hex}` as Digest;
    });
    for (const digest of some) await storage.put(blobKey(digest, 0), bytes);
    const digests = some.map((digest) => digestToBytes(digest));
    const values = (one: string): string => some.map(() => one).join(', ');
    await sql(`insert into blob (digest, state, size, n, stored) values ${values("(?, 'live', 6, 0, 1)")}`, ...digests);
    await sql(`insert into link (repository_id, digest) values ${values(`(${id}, ?)`)}`, ...digests);
    await sql(`insert into gc_queue (repository_id, digest, due_tick) values ${values(`(${id}, ?, 1)`)}`, ...digests);
  }
}
