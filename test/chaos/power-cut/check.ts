/**
 * Whether a data folder after a power cut is what was promised. It is opened as a server opens it, without a repair;
 * then the invariants of the design hold (I1, I3, I4, I7), what was under way can be done again, and after quiet and
 * enough ticks nothing is left over (I5) and the invariants hold still.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { COMMANDS } from '../../../src/commands.ts';
import type { Database } from '../../../src/database/database.ts';
import { filesOf, openSqlite } from '../../../src/database/open.ts';
import { systemClock } from '../../../src/kit/clock.ts';
import { noMetrics, silentLog } from '../../../src/kit/log.ts';
import { openLocal } from '../../../src/local/open.ts';
import { expireUploads, sweepUploads } from '../../../src/maintenance/expire.ts';
import { collector } from '../../../src/maintenance/gc.ts';
import { readJournal } from '../../../src/maintenance/gc-journal.ts';
import { spill } from '../../../src/maintenance/spill.ts';
import { MIGRATIONS } from '../../../src/migrations.ts';
import { blobKey, parseBlobKey } from '../../../src/oci/blob-key.ts';
import { digestFromBytes, digestToBytes, parseDigest } from '../../../src/oci/digest.ts';
import { parseRepositoryName } from '../../../src/oci/repository-name.ts';
import { callAs } from '../../../src/registry/samples.testing.ts';
import { openFsStorage } from '../../../src/storage/fs/fs.ts';
import type { BlobStorage, Records } from '../../../src/storage/storage.ts';
import { described, type Operation, type Promised, promisedAfter } from './ledger.ts';
import { openQuietly } from './quiet-database.ts';
import { type Recording, TICKS } from './record.ts';

/** What a state is compared with. */
export interface Expected {
  readonly recording: Recording;
  /** How many answers clients could have read before the cut. */
  readonly answers: number;
}

/** Ticks that pass until all is quiet: past an upload's lifetime and every grace at the first step, then past every window. */
const QUIET = [200, 5, 5, 5];
/** What a crash left half written is removed by a start an hour later. */
const LATER = 2 * 3_600_000;

/** How a state is looked at. */
export interface Look {
  /** Opened by `openSqlite` itself. */
  readonly threads?: boolean;
  /** Also what is left after quiet. */
  readonly quiet?: boolean;
}

/** What is wrong with the folder; empty where all is as promised. The folder is changed. */
export async function brokenPromises(
  data: string,
  expected: Expected,
  { threads = false, quiet = true }: Look = {},
): Promise<string[]> {
  try {
    const wrong = await opened(data, expected, threads, quiet);
    // Once more when everything is closed.
    return wrong.length > 0 || !threads ? wrong : damages(data);
  } catch (error) {
    return [`does not start or work: ${error instanceof Error ? error.stack : error}`];
  }
}

async function openThreads(folder: string): Promise<Database> {
  const parts = { commands: COMMANDS, migrations: MIGRATIONS, ticks: TICKS, clock: systemClock };
  return openSqlite({ ...parts, log: silentLog, metrics: noMetrics, folder, durability: 'relaxed' });
}

async function opened(data: string, expected: Expected, threads: boolean, quiet: boolean): Promise<string[]> {
  const database = await (threads ? openThreads : openQuietly)(data);
  const clock = { ...systemClock, now: () => systemClock.now() + LATER };
  const files = await openFsStorage({ root: join(data, 'storage'), durability: 'relaxed', clock });
  // After a power cut the machine has booted anew.
  const storage: BlobStorage = { ...files, epoch: 'after the cut' };
  const shared = { database, storage, clock: systemClock, log: silentLog, metrics: noMetrics };
  const store = await openLocal({
    ...shared,
    sparse: 'none',
    tickMilliseconds: 3_600_000,
    movesTick: false,
  });
  const { signal } = new AbortController();
  const { recording } = expected;
  const operations = recording.operations.slice(0, expected.answers + 1);
  try {
    const wrong = damages(data);
    const worlds = [promisedAfter(operations, expected.answers), promisedAfter(operations, operations.length)];
    const [found, mismatch] = compare(data, worlds, true);
    wrong.push(...mismatch, ...inventory(data), ...(await records(storage.records, data)));
    if (wrong.length > 0) return wrong;

    await sweepUploads(shared);
    await againWhatWasUnderWay(store, data, recording, operations, wrong);
    if (!quiet) return wrong;

    const collecting = collector({
      ...shared,
      settings: { deleteAfterTicks: 1, sweepTicks: 1_000_000, haltShare: 1 },
    });
    const spiller = spill(shared);
    for (const ticks of QUIET) {
      advance(data, ticks);
      await expireUploads(shared, signal);
      await spiller.run(1_000, signal);
      while ((await collecting.step(signal)).more);
    }
    wrong.push(...inventory(data), ...leftover(data), ...(await records(storage.records, data)));
    wrong.push(...compare(data, [found], false)[1]);
    return wrong;
  } finally {
    await store.close();
    await storage.close();
    await database.close();
  }
}

const readOnly = (data: string): DatabaseSync => new DatabaseSync(filesOf(data).path, { readOnly: true });

function advance(data: string, ticks: number): void {
  using database = new DatabaseSync(filesOf(data).path);
  database.exec('pragma synchronous = off');
  database.prepare('update gc_clock set tick = tick + ?').run(ticks);
}

/** SQLite's own look at both files. */
function damages(data: string): string[] {
  const wrong: string[] = [];
  for (const path of Object.values(filesOf(data))) {
    using database = new DatabaseSync(path, { readOnly: true });
    for (const row of database.prepare('pragma integrity_check').all())
      if (row.integrity_check !== 'ok') wrong.push(`${relative(data, path)}: ${row.integrity_check}`);
    for (const row of database.prepare('pragma foreign_key_check').all())
      wrong.push(`${relative(data, path)}: foreign key ${JSON.stringify(row)}`);
  }
  return wrong;
}

/** I1, I7: each repository is as before or as after what was under way; the one it is, and what differs. `fresh`: no time has passed. */
function compare(
  data: string,
  worlds: readonly ReadonlyMap<string, Promised>[],
  fresh: boolean,
): [found: Map<string, Promised>, wrong: string[]] {
  using database = readOnly(data);
  const wrong: string[] = [];
  const found = new Map<string, Promised>();
  const digestsOf = (text: string, ...values: (string | number)[]): string[] =>
    database
      .prepare(text)
      .all(...values)
      .map((row) => digestFromBytes(row.digest as Uint8Array));
  const names = database.prepare('select id, name from repository where gone = 0').all();
  const known = new Map(names.map(({ id, name }) => [String(name), Number(id)]));
  for (const name of new Set(worlds.flatMap((world) => [...world.keys()]))) {
    const id = known.get(name) ?? -1;
    const tags = database
      .prepare(
        'select t.name, m.digest from tag t join manifest m on m.id = t.manifest_id where t.gone = 0 and t.repository_id = ?',
      )
      .all(id);
    const is: Promised = {
      tags: new Map(tags.map((row) => [String(row.name), digestFromBytes(row.digest as Uint8Array)])),
      manifests: new Map(
        digestsOf('select digest from manifest where deleted_tick = 0 and repository_id = ?', id).map((one) => [
          one,
          [],
        ]),
      ),
      blobs: new Set(
        digestsOf(
          "select l.digest from link l join blob b on b.digest = l.digest where b.state = 'live' and l.repository_id = ?",
          id,
        ),
      ),
    };
    const empty: Promised = { tags: new Map(), manifests: new Map(), blobs: new Set() };
    const fits = worlds.map((world) => world.get(name) ?? empty).find((world) => described(world) === described(is));
    if (fits === undefined) {
      const wanted = worlds.map((world) => described(world.get(name) ?? empty)).join('\nor\n');
      wrong.push(`${name} holds\n${described(is)}\nand was promised\n${wanted}`);
      continue;
    }
    found.set(name, fits);
    const needed = new Set([...fits.manifests.values()].flat());
    for (const blob of fits.blobs) {
      // What no manifest names yet was promised for a while only, and not before its answer.
      const promised = needed.has(blob) || (fresh && worlds[0]!.get(name)?.blobs.has(blob) === true);
      if (promised && !is.blobs.has(blob)) wrong.push(`${name}: the blob ${blob} was promised and is not there`);
    }
  }
  return [found, wrong];
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)));
}

const hashOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** I1, I3, I4, I8: every live row has its bytes and the bytes its hash, no row names a dead key, every file is named. */
function inventory(data: string): string[] {
  using database = readOnly(data);
  const wrong: string[] = [];
  const blobs = join(data, 'storage/blobs');
  for (const row of database
    .prepare(
      'select b.digest, b.state, b.size, b.n, b.stored, c.bytes from blob b left join content c on c.digest = b.digest',
    )
    .all()) {
    const digest = digestFromBytes(row.digest as Uint8Array);
    if (row.state === 'damaged') wrong.push(`I4: ${digest} is damaged`);
    if (row.bytes !== null && hashOf(row.bytes as Uint8Array) !== digest)
      wrong.push(`I1: ${digest} has other bytes inline`);
    if (row.state !== 'live') continue;
    if (row.bytes === null && row.stored === 0) wrong.push(`I4: ${digest} is live without bytes`);
    if (row.stored === 0) continue;
    const file = join(blobs, blobKey(digest, Number(row.n)));
    const size = statSync(file, { throwIfNoEntry: false })?.size;
    if (size !== row.size) wrong.push(`I4: ${digest} has ${size} bytes in storage, its row says ${row.size}`);
    else if (hashOf(readFileSync(file)) !== digest) wrong.push(`I1: ${digest} has other bytes in storage`);
  }
  if (database.prepare('select 1 from dead_key d join blob b on b.digest = d.digest and b.n = d.n').get() !== undefined)
    wrong.push('I3: a row names a dead key');
  const rowOf = database.prepare('select n from blob where digest = ?');
  const deadOf = database.prepare('select 1 from dead_key where digest = ? and n = ? and confirmed = 0');
  for (const file of filesBelow(blobs)) {
    const key = parseBlobKey(file);
    const digest = key === undefined ? undefined : digestToBytes(key.digest);
    const named = digest !== undefined && (rowOf.get(digest)?.n === key!.n || deadOf.get(digest, key!.n) !== undefined);
    if (!named) wrong.push(`I5: no row names ${file}`);
  }
  wrong.push(...references(database));
  return wrong;
}

/** I8: the references of each manifest are those of its bytes. */
function references(database: DatabaseSync): string[] {
  const wrong: string[] = [];
  const said = database.prepare('select digest from reference where manifest_id = ? and is_child = 0');
  for (const { id, bytes } of database
    .prepare('select m.id, c.bytes from manifest m left join content c on c.digest = m.digest')
    .all()) {
    if (bytes === null) {
      wrong.push('I1: a manifest is not in content');
      continue;
    }
    const { config, layers } = JSON.parse(Buffer.from(bytes as Uint8Array).toString());
    const meant = new Set([config, ...layers].map((one: { digest: string }) => one.digest));
    const rows = said.all(id as number).map((row) => digestFromBytes(row.digest as Uint8Array));
    if ([...meant].sort().join() !== rows.sort().join())
      wrong.push(`I8: manifest ${id} has other references than its bytes`);
  }
  return wrong;
}

/** The records: a mirror that is there is whole, and bytes that are gone for sure are in the journal. */
async function records(stored: Records, data: string): Promise<string[]> {
  const wrong: string[] = [];
  for await (const name of stored.list('index/')) {
    if (!name.endsWith('/_chunks.json')) continue;
    const table = JSON.parse(Buffer.from((await stored.get(name)) ?? []).toString() || '{}');
    if (table.version !== 1) wrong.push(`the mirror's table ${name} is not whole`);
    for (const chunk of [...(table.tags ?? []), ...(table.manifests ?? [])]) {
      const bytes = await stored.get(chunk.record);
      const sum = bytes === undefined ? undefined : createHash('sha256').update(bytes).digest('hex');
      if (sum !== chunk.sha256)
        wrong.push(`the mirror's chunk ${chunk.record} is ${sum}, its table says ${chunk.sha256}`);
    }
  }
  const journal = new Set<string>();
  for await (const { key } of readJournal(stored)) journal.add(key);
  using database = readOnly(data);
  for (const { digest, n } of database.prepare('select digest, n from dead_key where confirmed = 1').all()) {
    const key = blobKey(digestFromBytes(digest as Uint8Array), Number(n));
    if (!journal.has(key) && Number(n) === highestDead(database, digest as Uint8Array))
      wrong.push(`the bytes of ${key} are gone, and the journal does not know`);
  }
  return wrong;
}

const highestDead = (database: DatabaseSync, digest: Uint8Array): number =>
  Number(database.prepare('select max(n) as n from dead_key where digest = ?').get(digest)?.n);

/** What the cut interrupted is pushed again by somebody else, as a client would: it must go through, with the right bytes. */
async function againWhatWasUnderWay(
  store: Awaited<ReturnType<typeof openLocal>>,
  data: string,
  { pieces }: Recording,
  operations: readonly Operation[],
  wrong: string[],
): Promise<void> {
  const call = callAs('ann');
  const repository = parseRepositoryName('after/cut');
  const wanted = new Set<string>();
  for (const operation of operations.slice(-4)) if (operation.kind === 'blob') wanted.add(operation.digest);
  {
    using database = readOnly(data);
    for (const { digest } of database.prepare("select digest from blob where state = 'incoming'").all())
      wanted.add(digestFromBytes(digest as Uint8Array));
  }
  for (const text of wanted) {
    const bytes = pieces.get(text)!.bytes;
    const digest = parseDigest(text);
    await store.pushBlob(
      call,
      repository,
      { digest, size: bytes.length },
      Readable.from([bytes], { objectMode: false }),
    );
    const content = await store.getBlob(call, repository, digest);
    const read = content.bytes ?? (await buffer(content.open()));
    content.close();
    if (hashOf(read) !== text) wrong.push(`I1: ${text} was pushed again and reads as other bytes`);
  }
}

/** I5: after quiet there is what is reached, and no work is left. */
function leftover(data: string): string[] {
  const wrong: string[] = [];
  using database = readOnly(data);
  for (const [what, text] of [
    ['a queue entry', 'select 1 from gc_queue'],
    ['a dead key that may have bytes', 'select 1 from dead_key where confirmed = 0'],
    ['an upload', 'select 1 from upload'],
    ['a tombstone', 'select 1 from manifest where deleted_tick > 0 union all select 1 from tag where gone > 0'],
    ['inline bytes that were not spilled', "select 1 from blob where state = 'live' and stored = 0"],
    ['a reservation', "select 1 from blob where state = 'incoming'"],
    [
      'a blob that nothing refers to',
      `select 1 from blob b where not exists (select 1 from reference f where f.digest = b.digest)
         and not exists (select 1 from manifest m where m.digest = b.digest)`,
    ],
  ] as const) {
    const count = database.prepare(`select count(*) as n from (${text})`).get()?.n;
    if (count !== 0) wrong.push(`I5: ${what} is left (${count})`);
  }
  const files = filesBelow(join(data, 'storage/uploads'));
  if (files.length > 0) wrong.push(`I5: files of uploads are left: ${files}`);
  return wrong;
}
