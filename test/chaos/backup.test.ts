/**
 * Backup and restore of the real program: under clients and the collector, onto storages that are empty, newer, or
 * partly deleted, killed in the middle, from places with damage, and from one database to the other. What was
 * acknowledged before a backup began and not deleted is there after a restore, byte for byte.
 */
import assert from 'node:assert/strict';
import { existsSync, globSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { startPostgres, type TestServer } from '../../src/database/postgres/server.testing.ts';
import { FAILPOINTS } from '../../src/kit/failpoint.ts';
import { type Client, client } from '../support/client.ts';
import { type Image, image, piece, randomPiece } from '../support/images.ts';
import { type Choices, choices, runSeed } from '../support/random.ts';
import { type Longshore, longshoreCommand, startLongshore } from '../support/server.ts';
import { temporaryFolder } from '../support/temp.ts';
import { leftOut, type Ran, runAny } from '../support/tools.ts';
import { advanceClock, databaseFile } from './disk.ts';

const CLIENTS = 4;
const SETTINGS = {
  LONGSHORE_GC_TICK: '1s',
  LONGSHORE_GC_GRACE_TICKS: '20',
  LONGSHORE_GC_UNDELETE_TICKS: '5',
  LONGSHORE_GC_DELETE_AFTER_TICKS: '1',
  LONGSHORE_GC_HALT_PERCENT: '100',
  LONGSHORE_ACCESS_ANONYMOUS: 'push',
  LONGSHORE_STORAGE_DURABILITY: 'relaxed',
  LONGSHORE_LOG_ACCESS: 'false',
};

/** An image that a client pushed, and what is known of it. Moments count everything that happened in the run. */
interface Pushed {
  readonly repository: string;
  readonly tag: string;
  readonly image: Image;
  readonly acknowledged: number;
  deleting?: number;
}

/** Kills of a restore behind which it is asked whether anything is served. */
const ASKED: ReadonlySet<string> = new Set(['recover.empty.after', 'recover.journal.after', 'recover.end.before']);

let moment = 0;
const base = image({ layers: [randomPiece(200_000), piece('shared by all')] });

/** Pushes, moves tags and deletes until told to stop. */
async function work(
  http: Client,
  name: string,
  random: Choices,
  pushed: Pushed[],
  isOver: () => boolean,
): Promise<void> {
  for (let count = 0; !isOver(); count++) {
    const repository = `team/${name}`;
    const size = random.pick([500, 500, 3_000, 3_000, 60_000, 60_000, 60_000, 1_500_000]) ?? 500;
    const next = image({ layers: [base.blobs[1]!, randomPiece(size)] });
    await http.pushImage(repository, next, `v${count}`);
    pushed.push({ repository, tag: `v${count}`, image: next, acknowledged: ++moment });
    await http.pushManifest(repository, next.manifest, 'latest');
    if (!random.chance(15)) continue;
    const old = random.pick(pushed.filter((one) => one.repository === repository && one.deleting === undefined));
    if (old === undefined) continue;
    old.deleting = ++moment;
    await http.send('DELETE', `/v2/${repository}/manifests/${old.image.manifest.digest}`);
  }
}

async function run(data: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  const [program = '', ...rest] = longshoreCommand();
  return runAny(program, [...rest, ...args, '--data', data], { cwd: data, env: { ...SETTINGS, ...env } });
}

/** Runs a command that gives JSON and has to end with `code`. */
async function json<T>(data: string, args: readonly string[], code = 0, env = {}): Promise<T> {
  const ran = await run(data, [...args, '--json'], env);
  assert.equal(ran.code, code, `${args.join(' ')}\n${ran.stdout}${ran.stderr}`);
  return JSON.parse(ran.stdout) as T;
}

interface Made {
  readonly id: string;
  readonly blobs: number;
  readonly copied: number;
  readonly copiedBytes: number;
  readonly bytes: number;
}
interface Restored {
  readonly rows: number;
  readonly deadSince: number;
  readonly whole: boolean;
  readonly kept?: string;
  readonly newerRepositories: readonly string[];
  readonly lost: readonly { readonly digest: string; readonly neededBy: readonly string[] }[];
  readonly blobs: {
    readonly inPlace: number;
    readonly copied: number;
    readonly found: number;
    readonly unknown: number;
    readonly lostCount: number;
  };
}

/** Reads every image whole. */
async function readAll(server: Longshore, images: readonly Pushed[]): Promise<void> {
  const http = client(server.url);
  const wrong: string[] = [];
  for (const { repository, image: wanted } of images) {
    const pieces = [...wanted.blobs.map((blob) => ['blobs', blob] as const), ['manifests', wanted.manifest] as const];
    for (const [kind, { digest, bytes }] of pieces) {
      const got = await http.hash(`/v2/${repository}/${kind}/${digest}`);
      if (got.status !== 200 || got.digest !== digest || got.size !== bytes.length)
        wrong.push(`${repository} ${kind} ${digest}: ${got.status}, ${got.size} bytes, ${got.digest}`);
    }
  }
  http.close();
  assert.deepEqual(wrong, []);
}

async function serveAndRead(data: string, images: readonly Pushed[], env: Record<string, string> = {}): Promise<void> {
  const server = await startLongshore({ data, env: { ...SETTINGS, ...env } });
  await readAll(server, images);
  await server.stop();
}

/** Blobs of a place for backups. */
const blobFiles = (place: string): string[] => globSync('blobs/*/*/*', { cwd: place });

function flip(file: string): void {
  const bytes = readFileSync(file);
  const at = Math.floor(bytes.length / 2);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(file, bytes);
}

/** Lets ticks pass and collects, in turns, until the bytes of what was deleted are gone. */
async function collectAll(data: string, turns = 3): Promise<number> {
  let deleted = 0;
  for (let turn = 0; turn < turns; turn++) {
    advanceClock(data, 60);
    deleted += (await json<{ deleted: number }>(data, ['gc', 'run'])).deleted;
  }
  return deleted;
}

describe('backups of an installation that works', () => {
  const data = temporaryFolder('backup-data');
  const place = join(temporaryFolder('backup-place'), 'backups');
  const pushed: Pushed[] = [];
  /** What each backup has to hold. */
  const held = new Map<string, Pushed[]>();
  const points: Made[] = [];
  let idle: Pushed[] = [];

  test('made under clients and the collector; the second copies only what is new', async (t) => {
    const seed = runSeed();
    t.diagnostic(`seed ${seed}`);
    const server = await startLongshore({ data, env: SETTINGS });
    const http = client(server.url);
    let over = false;
    const workers = Array.from({ length: CLIENTS }, (_, at) =>
      work(http, `client-${at}`, choices(seed + at), pushed, () => over),
    );
    const enough = async (count: number): Promise<void> => {
      while (pushed.length < count) await Promise.race([...workers, new Promise((done) => setTimeout(done, 20))]);
    };
    let known = 0;
    for (let round = 1; round <= 2; round++) {
      await enough(round * 25);
      const began = ++moment;
      const made = await json<Made>(data, ['backup', '--to', place]);
      const ended = ++moment;
      const due = pushed.filter(
        (one) => one.acknowledged < began && (one.deleting === undefined || one.deleting > ended),
      );
      assert.ok(due.length >= 12, `${due.length} images`);
      held.set(made.id, due);
      points.push(made);
      const files = blobFiles(place).length;
      assert.equal(files - known, made.copied, 'what was copied is what is new');
      known = files;
    }
    assert.ok(points[1]!.copied < points[1]!.blobs, 'the second backup copied everything again');
    await enough(85);
    over = true;
    await Promise.all(workers);
    assert.ok(pushed.some(({ deleting }) => deleting !== undefined));
    // What is still in the database alone would be new to the place once it has been brought to storage.
    await json(data, ['drain']);
    const third = await json<Made>(data, ['backup', '--to', place]);
    const fourth = await json<Made>(data, ['backup', '--to', place]);
    assert.equal(fourth.copied, 0);
    assert.ok(third.copied > 0);
    idle = pushed.filter(({ deleting }) => deleting === undefined);
    held.set(third.id, idle);
    points.push(third);
    http.close();
    await server.stop();
    assert.ok(!existsSync(join(data, 'snapshot')), 'the snapshot is left over');
  });

  test('nobody but the owner may look into the place', () => {
    for (const entry of readdirSync(place, { recursive: true, withFileTypes: true })) {
      const mode = statSync(join(entry.parentPath, entry.name)).mode & 0o777;
      assert.equal(mode, entry.isDirectory() ? 0o700 : 0o600, entry.name);
    }
    assert.equal(statSync(place).mode & 0o777, 0o700);
  });

  test('each is whole in a fresh folder', async () => {
    for (const { id } of [points[0]!, points[2]!]) {
      const fresh = temporaryFolder('restored');
      const done = await json<Restored>(fresh, ['restore', '--from', place, '--point', id]);
      assert.ok(done.whole && done.blobs.copied > 0 && done.blobs.unknown === 0, JSON.stringify(done));
      await serveAndRead(fresh, held.get(id) ?? []);
    }
  });

  test('restored onto its own storage, which is newer, it says so and is whole', async () => {
    const { id } = points[0]!;
    const done = await json<Restored>(data, ['restore', '--from', place, '--point', id]);
    assert.ok(done.whole && done.blobs.inPlace > 0 && done.blobs.unknown > 0, JSON.stringify(done));
    assert.ok(existsSync(done.kept ?? ''), 'the former database is kept');
    const server = await startLongshore({ data, env: SETTINGS });
    await readAll(server, held.get(id) ?? []);
    // What came later is not there any more, and can be pushed again.
    const later = idle.at(-1)!;
    const http = client(server.url);
    assert.equal(
      (await http.send('GET', `/v2/${later.repository}/manifests/${later.image.manifest.digest}`)).status,
      404,
    );
    await http.pushImage(later.repository, later.image, 'again');
    http.close();
    await readAll(server, [later]);
    await server.stop();
  });

  test('restored onto a storage from which the collector has deleted since, it is whole and stays so', async () => {
    const { id } = points[0]!;
    const due = held.get(id) ?? [];
    const server = await startLongshore({ data, env: SETTINGS });
    const http = client(server.url);
    for (const { repository, image: one } of due.slice(0, 10))
      assert.equal((await http.send('DELETE', `/v2/${repository}/manifests/${one.manifest.digest}`)).status, 202);
    http.close();
    await server.stop();
    assert.ok((await collectAll(data)) >= 10, 'nothing was deleted');
    const done = await json<Restored>(data, ['restore', '--from', place, '--point', id]);
    assert.ok(done.whole && done.deadSince >= 10 && done.blobs.copied > 0, JSON.stringify(done));
    await serveAndRead(data, due);
    // The dead keys of the journal strike again: they hit nothing that lives.
    await collectAll(data, 2);
    await serveAndRead(data, due);
    const again = await json<Made>(data, ['backup', '--to', place]);
    assert.equal(again.copied, 0, 'it was all there');
  });

  test('bits that flip in the place are found, refused, and copied again', async () => {
    const { id } = points[2]!;
    // Its last layer is its own.
    const victim = idle.find(({ image: one }) => (one.blobs.at(-1)?.bytes.length ?? 0) > 40_000)!;
    const blob = victim.image.blobs.at(-1)!;
    const hex = blob.digest.slice(7);
    flip(join(place, 'blobs/sha256', hex.slice(0, 2), hex));
    const found = await json<{ damaged: string[] }>(data, ['backup', 'verify', id, '--to', place], 1);
    assert.deepEqual(found.damaged, [blob.digest]);
    const fresh = temporaryFolder('restored');
    const done = await json<Restored>(fresh, ['restore', '--from', place, '--point', id], 1);
    assert.deepEqual(
      done.lost.map(({ digest }) => digest),
      [blob.digest],
    );
    assert.ok(done.lost[0]!.neededBy.includes(`${victim.repository}@${victim.image.manifest.digest}`));
    const server = await startLongshore({ data: fresh, env: SETTINGS });
    const http = client(server.url);
    assert.equal((await http.send('HEAD', `/v2/${victim.repository}/blobs/${blob.digest}`)).status, 404);
    // Pushed again it is there, and a backup of this installation mends the place.
    await http.pushImage(victim.repository, victim.image);
    http.close();
    await readAll(server, idle);
    const mended = await json<Made>(fresh, ['backup', '--to', place]);
    assert.equal(mended.copied, 1);
    await server.stop();
    await json(data, ['backup', 'verify', '--to', place]);
  });

  test('a damaged dump is refused before anything is changed', async () => {
    const { id } = points[1]!;
    const dump = join(place, 'records', globSync(`dumps/${id}/manifest-*.zst`, { cwd: join(place, 'records') })[0]!);
    const well = readFileSync(dump);
    flip(dump);
    const before = readFileSync(databaseFile(data));
    const ran = await run(data, ['restore', '--from', place, '--point', id]);
    assert.equal(ran.code, 1);
    assert.match(ran.stderr, /damaged/);
    assert.ok(before.equals(readFileSync(databaseFile(data))), 'the database was changed');
    writeFileSync(dump, well);
  });

  test('killed anywhere, a restore is begun again and nothing half of it is served', async () => {
    const { id } = points[2]!;
    const fresh = temporaryFolder('restored');
    const args = ['restore', '--from', place, '--point', id];
    const names = FAILPOINTS.filter((name) => name.startsWith('recover.'));
    assert.ok(names.length >= 8);
    for (const name of names) {
      const ran = await run(fresh, args, { LONGSHORE_TEST_FAILPOINT: `${name}:1` });
      assert.equal(ran.signal, 'SIGKILL', `${name}: ${ran.stderr}`);
      if (!ASKED.has(name)) continue;
      const served = await run(
        fresh,
        name === 'recover.end.before' ? ['serve', '--listen', '127.0.0.1:0'] : ['gc', 'status'],
      );
      assert.equal(served.code, 1, name);
      assert.match(served.stderr, /has not ended.*longshore restore/s, name);
    }
    const done = await json<Restored>(fresh, args);
    assert.ok(done.whole, JSON.stringify(done));
    await serveAndRead(fresh, held.get(id) ?? []);
  });

  test('killed anywhere, a backup leaves no point, and the next one goes on', async () => {
    const list = async (): Promise<number> =>
      (await json<{ backups: unknown[] }>(data, ['backup', 'list', '--to', place])).backups.length;
    const before = await list();
    const other = join(temporaryFolder('backup-place'), 'other');
    for (const [name, count] of [
      ['backup.snapshot.after', 1],
      ['backup.copy.after', 5],
      ['backup.point.before', 1],
    ] as const) {
      const ran = await run(data, ['backup', '--to', other], { LONGSHORE_TEST_FAILPOINT: `${name}:${count}` });
      assert.equal(ran.signal, 'SIGKILL', `${name}: ${ran.stderr}`);
      assert.deepEqual(globSync('records/points/*', { cwd: other }), []);
    }
    const made = await json<Made>(data, ['backup', '--to', other]);
    assert.equal(made.copied, 0, 'what was copied before the last kill was copied again');
    const ran = await run(data, ['backup', '--to', other], { LONGSHORE_TEST_FAILPOINT: 'backup.point.after:1' });
    assert.equal(ran.signal, 'SIGKILL');
    await json(data, ['backup', 'verify', '--to', other]);
    assert.equal(await list(), before);
    // A killed backup's lock keeps a prune away for a while.
    const pruned = await run(data, ['backup', 'prune', '--to', other, '--keep', '1']);
    assert.equal(pruned.code, 1);
    assert.match(pruned.stderr, /backup is under way/);
  });

  test('pruned, the place has what the kept backup needs and nothing else', async () => {
    const before = blobFiles(place).length;
    const done = await json<{ kept: string[]; removed: string[]; blobs: number }>(data, [
      ...['backup', 'prune', '--to', place, '--keep', '1'],
    ]);
    assert.equal(done.kept.length, 1);
    assert.ok(done.removed.length >= 4);
    assert.equal(blobFiles(place).length, before - done.blobs);
    await json(data, ['backup', 'verify', '--to', place]);
    const fresh = temporaryFolder('restored');
    assert.ok((await json<Restored>(fresh, ['restore', '--from', place])).whole);
    const { blobs } = (await json<{ backups: { blobs: number }[] }>(data, ['backup', 'list', '--to', place]))
      .backups[0]!;
    assert.equal(blobFiles(place).length, blobs);
  });

  test('a place of something else is refused, and so is the storage itself', async () => {
    for (const [to, why] of [
      [join(data, 'storage'), /place of their own/],
      [join(data, 'backups'), /outside of/],
      ['ftp://somewhere/else', /not ftp/],
      ['s3://bucket-name/prefix?colour=red', /is one of endpoint, region/],
      ['s3://bucket-name/../up', /prefix/],
    ] as const) {
      const ran = await run(data, ['backup', '--to', to]);
      assert.equal(ran.code, 1, to);
      assert.match(ran.stderr, why);
    }
    const strange = temporaryFolder('restored');
    await json<Restored>(strange, ['restore', '--from', place]);
    const copy = join(strange, 'storage');
    const other = temporaryFolder('other-data');
    const ran = await run(other, ['backup', '--to', copy]);
    assert.equal(ran.code, 1);
    assert.match(ran.stderr, /holds no backups/);
    const stranger = await run(other, ['backup', '--to', place]);
    assert.equal(stranger.code, 1);
    assert.match(stranger.stderr, /another installation/);
  });
});

describe('from one database to the other', () => {
  let postgres: TestServer | undefined;
  after(() => postgres?.stop());

  test('a backup of SQLite is restored into PostgreSQL, and one of that into SQLite', async (t) => {
    try {
      postgres = await startPostgres();
    } catch (error) {
      if ((error as Error).constructor.name !== 'PostgresMissing' || process.env.LONGSHORE_TEST_ALL === '1')
        throw error;
      leftOut('backup and restore on PostgreSQL: needs PostgreSQL');
      return t.diagnostic('left out: PostgreSQL');
    }
    const url = await postgres.database('restored');
    const data = temporaryFolder('sqlite');
    const place = join(temporaryFolder('backup-place'), 'backups');
    const images: Pushed[] = [];
    const server = await startLongshore({ data, env: SETTINGS });
    const http = client(server.url);
    const put = async (to: Client, count: number): Promise<void> => {
      const next = image({ layers: [base.blobs[0]!, randomPiece(50_000), piece(`small ${count}`)] });
      await to.pushImage('team/moves', next, `v${count}`);
      images.push({ repository: 'team/moves', tag: `v${count}`, image: next, acknowledged: ++moment });
    };
    for (let count = 0; count < 10; count++) await put(http, count);
    http.close();
    await json<Made>(data, ['backup', '--to', place]);
    await server.stop();

    const there = temporaryFolder('postgres');
    const env = { LONGSHORE_DATABASE_URL: url };
    const moved = await json<Restored>(there, ['restore', '--from', place], 0, env);
    assert.ok(moved.whole, JSON.stringify(moved));
    const shared = await startLongshore({ data: there, env: { ...SETTINGS, ...env } });
    await readAll(shared, images);
    const refused = await run(there, ['restore', '--from', place], env);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /in use/);
    // Numbers go on where they stood, and a backup beside the server has what was pushed.
    const more = client(shared.url);
    for (let count = 10; count < 15; count++) await put(more, count);
    more.close();
    await json<Made>(there, ['backup', '--to', place], 0, env);
    await shared.stop();

    // Once more into the same database, which is kept aside.
    const again = await json<Restored>(there, ['restore', '--from', place], 0, env);
    assert.match(again.kept ?? '', /^the schema longshore_before_/);
    await serveAndRead(there, images, env);
    const back = temporaryFolder('back');
    assert.ok((await json<Restored>(back, ['restore', '--from', place])).whole);
    await serveAndRead(back, images);
  });
});
