/** Installations for the tests of a rebuild: one that is filled, and another database over the same storage. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { COMMANDS } from '../commands.ts';
import { script } from '../database/commands.testing.ts';
import type { Database } from '../database/database.ts';
import { systemClock } from '../kit/clock.ts';
import { noMetrics, silentLog } from '../kit/log.ts';
import { tickForward } from '../local/commands/house-keeping.ts';
import { type Local, openLocal } from '../local/open.ts';
import type { Sparse } from '../local/parts.ts';
import { blobKey } from '../oci/blob-key.ts';
import { digestFromBytes, digestOf } from '../oci/digest.ts';
import type { Algorithm, Digest, RepositoryName, Tag } from '../oci/names.ts';
import type { Sample } from '../registry/samples.testing.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { type Drained, type DrainPlace, drain } from './drain.ts';
import { CALL, type OpenDatabase, TICKS } from './gc.testing.ts';
import { type Collected, collector } from './gc.ts';
import { type ReindexOptions, reindex } from './reindex.ts';
import type { ReindexReport } from './reindex-report.ts';

/** A store with its database, over a storage that outlives it. */
export interface Installation {
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly store: Local;
  tick(count: number): Promise<void>;
  /** Steps of the collector until there is nothing to do. */
  collect(): Promise<Collected>;
  drain(): Promise<void>;
  rows<Row>(text: string, ...values: readonly (string | number | Uint8Array)[]): Promise<Row[]>;
  sql(text: string, ...values: readonly (string | number | Uint8Array)[]): Promise<void>;
  pushBlob(repository: string, bytes: Uint8Array, algorithm?: Algorithm): Promise<Digest>;
  push(repository: string, sample: Sample, ...tags: readonly string[]): Promise<Digest>;
  reindex(options?: Partial<ReindexOptions>): Promise<ReindexReport>;
}

/** Opens a new database over this storage, hands both over, and throws the database away. */
export async function installed<T>(
  open: OpenDatabase,
  storage: BlobStorage,
  work: (installation: Installation) => Promise<T>,
  sparse: Sparse = 'none',
): Promise<T> {
  const { database, stop } = await open({
    commands: [...COMMANDS, script],
    writer: new URL('./writer.testing.ts', import.meta.url),
    ticks: TICKS,
  });
  const parts = { database, storage, clock: systemClock, log: silentLog, metrics: noMetrics };
  const store = await openLocal({ ...parts, sparse, tickMilliseconds: 3_600_000, movesTick: false });
  const settings = { deleteAfterTicks: 2, sweepTicks: 1_000_000, haltShare: 1 };
  const collecting = collector({ ...parts, settings });
  const { signal } = new AbortController();
  try {
    return await work({
      database,
      storage,
      store,
      async tick(count) {
        for (let passed = 0; passed < count; passed++) {
          const row = await database.query.get<{ tick: number }>('select tick from gc_clock where id = 1');
          await database.run(tickForward, { seen: row?.tick ?? 0 });
        }
      },
      async collect() {
        for (;;) {
          const done = await collecting.step(signal);
          if (!done.more) return done;
        }
      },
      async drain() {
        const draining = drain(parts);
        let place: DrainPlace | undefined = { stage: 'spill' };
        while (place !== undefined) {
          const done: Drained = await draining.step(place, signal);
          assert.deepEqual(done.failed, []);
          place = done.next;
        }
        assert.equal((await draining.lag()).blobs, 0);
      },
      rows: (text, ...values) => database.query.all(text, ...values),
      async sql(text, ...values) {
        await database.run(script, { steps: [{ text, values }] });
      },
      async pushBlob(repository, bytes, algorithm = 'sha256') {
        const digest = digestOf(bytes, algorithm);
        const body = Readable.from([Buffer.from(bytes)], { objectMode: false });
        await store.pushBlob(CALL, repository as RepositoryName, { digest, size: bytes.length }, body);
        return digest;
      },
      async push(repository, { bytes, digest, mediaType }, ...tags) {
        await store.pushManifest(CALL, repository as RepositoryName, bytes, mediaType, { digest, tags: tags as Tag[] });
        return digest;
      },
      reindex: (options = {}) => reindex({ ...parts, verify: true, signal, ...options }),
    });
  } finally {
    await store.close();
    await stop();
  }
}

/** Everything that clients can ask, but blobs that nothing names: those are nobody's any more after a rebuild. */
export async function picture(
  { store, rows }: Installation,
  repositories: readonly string[],
): Promise<Record<string, unknown>> {
  const page = { limit: 1000 };
  const answer: Record<string, unknown> = { catalog: await store.listRepositories(CALL, page) };
  const ask = async (what: string, asking: Promise<unknown>): Promise<void> => {
    answer[what] = await asking.catch((error: { code?: string }) => error.code);
  };
  for (const name of repositories as readonly RepositoryName[]) {
    await ask(`${name} tags`, store.listTags(CALL, name, page));
    const tags = await rows<{ name: Tag }>(
      'select t.name from tag t join repository r on r.id = t.repository_id where r.gone = 0 and r.name = ? and t.gone = 0',
      name,
    );
    for (const { name: tag } of tags) await ask(`${name}:${tag}`, manifestOf(store, name, { tag }));
    const manifests = await rows<{ digest: Uint8Array }>('select distinct digest from manifest');
    const subjects = await rows<{ digest: Uint8Array }>('select distinct subject as digest from referrer');
    for (const digest of [...manifests, ...subjects].map((row) => digestFromBytes(row.digest))) {
      await ask(`${name}@${digest}`, manifestOf(store, name, { digest }));
      await ask(`${name} referrers of ${digest}`, store.listReferrers(CALL, name, digest, undefined, page));
    }
    const named = await rows<{ digest: Uint8Array }>(
      `select distinct f.digest from reference f join manifest m on m.id = f.manifest_id and m.deleted_tick = 0
       join repository r on r.id = m.repository_id where r.gone = 0 and r.name = ?`,
      name,
    );
    for (const { digest } of named) {
      const blob = digestFromBytes(digest);
      await ask(`${name} blob ${blob}`, blobOf(store, name, blob));
    }
  }
  // Of what is not there nothing is to be said.
  return Object.fromEntries(Object.entries(answer).filter(([, value]) => !isUnknown(value)));
}

function isUnknown(value: unknown): boolean {
  if (typeof value === 'string') return true;
  return (value as { items?: readonly unknown[] }).items?.length === 0;
}

async function manifestOf(store: Local, name: RepositoryName, reference: { tag: Tag } | { digest: Digest }) {
  const { bytes, descriptor } = await store.getManifest(CALL, name, reference);
  return { descriptor, text: Buffer.from(bytes).toString() };
}

async function blobOf(store: Local, name: RepositoryName, digest: Digest) {
  const content = await store.getBlob(CALL, name, digest);
  try {
    const bytes = Buffer.concat(await content.open().toArray());
    assert.equal(digestOf(bytes, digest.startsWith('sha512') ? 'sha512' : 'sha256'), digest);
    return { ...content.descriptor, read: bytes.length };
  } finally {
    content.close();
  }
}

/** Each names what must never be: the invariants I1, I3, I4, I5 and I8 of the collector, in SQL. */
const NEVER: readonly (readonly [string, string])[] = [
  [
    'I1: a manifest without live bytes',
    `select m.id from manifest m join blob b on b.digest = m.digest left join content c on c.digest = m.digest
     where b.state <> 'live' or c.digest is null`,
  ],
  ['I3: a row names a dead key', 'select d.n from dead_key d join blob b on b.digest = d.digest and b.n = d.n'],
  [
    'I4: live without bytes',
    `select b.digest from blob b where b.state = 'live' and b.stored = 0
       and not exists (select 1 from content c where c.digest = b.digest)`,
  ],
  [
    'I5: a forgotten link',
    `select l.digest from link l where not exists (select 1 from gc_queue q where q.repository_id = l.repository_id and q.digest = l.digest)
       and not exists (select 1 from reference f join manifest m on m.id = f.manifest_id
         where f.repository_id = l.repository_id and f.digest = l.digest and m.deleted_tick = 0 and f.is_child = 0)`,
  ],
  [
    'I5: a forgotten row',
    `select b.digest from blob b where not exists (select 1 from link l where l.digest = b.digest)
       and not exists (select 1 from reference f where f.digest = b.digest)
       and not exists (select 1 from manifest m where m.digest = b.digest)
       and not exists (select 1 from gc_queue q where q.repository_id = 0 and q.digest = b.digest)`,
  ],
  [
    'I8: a child that its index does not know',
    `select f.digest from reference f join manifest p on p.id = f.manifest_id and p.deleted_tick = 0
       join manifest m on m.repository_id = f.repository_id and m.digest = f.digest and m.deleted_tick = 0
     where f.is_child = 1 and f.child_id is null`,
  ],
  [
    'I8: usage that is not the sum',
    `select r.name from repository r where
       (select coalesce(sum(bytes), 0) from usage u where u.repository_id = r.id)
         + (select coalesce(sum(bytes), 0) from usage_delta d where d.repository_id = r.id)
       <> (select coalesce(sum(b.size), 0) from link l join blob b on b.digest = l.digest where l.repository_id = r.id)
         + (select coalesce(sum(m.size), 0) from manifest m where m.repository_id = r.id and m.deleted_tick = 0)
       or (select coalesce(sum(manifests), 0) from usage u where u.repository_id = r.id)
         + (select coalesce(sum(manifests), 0) from usage_delta d where d.repository_id = r.id)
       <> (select count(*) from manifest m where m.repository_id = r.id and m.deleted_tick = 0)`,
  ],
];

/** What is left when all is collected, and must not be. */
const LEFT: readonly (readonly [string, string])[] = [
  ['I5: a review', 'select digest from gc_queue'],
  ['I5: a dead key that may have bytes', 'select digest from dead_key where confirmed = 0'],
  [
    'I5: a blob that nothing names',
    `select digest from blob b where not exists (select 1 from reference f where f.digest = b.digest)
       and not exists (select 1 from manifest m where m.digest = b.digest)`,
  ],
];

/**
 * Asserts the invariants, and that storage has what rows say. `collected`: that nothing is left over either; `swept`:
 * nor bytes of which no row ever knew, which are the weekly sweep's (`gc.contract.ts`).
 */
export async function sound({ rows, storage }: Installation, collected = false, swept = collected): Promise<void> {
  for (const [what, text] of collected ? [...NEVER, ...LEFT] : NEVER) {
    assert.deepEqual(await rows(`${text} limit 3`), [], what);
  }
  const stored = new Map<string, number>();
  for await (const { key, size } of storage.list()) stored.set(key, size);
  const live = await rows<{ digest: Uint8Array; n: number; size: number }>(
    "select digest, n, size from blob where state = 'live' and stored = 1",
  );
  for (const { digest, n, size } of live) {
    const key = blobKey(digestFromBytes(digest), n);
    assert.equal(stored.get(key), size, `I4: ${key}`);
    stored.delete(key);
  }
  if (swept) assert.deepEqual([...stored.keys()], [], 'I5: keys that no row names');
}
