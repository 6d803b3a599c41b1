/**
 * A database that was put back to an older state by means of its own, while storage went on: 100 commits and a collection
 * later it is not served. Recovered, it has what was acknowledged before and not deleted, and what was pushed since as
 * far as storage knows it; keys that died since are dead.
 */
import assert from 'node:assert/strict';
import { copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { collectorFrom } from '../../src/collecting.ts';
import { loadConfiguration } from '../../src/configuration.ts';
import { startPostgres, type TestServer } from '../../src/database/postgres/server.testing.ts';
import { FAILPOINTS } from '../../src/kit/failpoint.ts';
import { tickForward } from '../../src/local/commands/house-keeping.ts';
import { readJournal } from '../../src/maintenance/gc-journal.ts';
import type { RecoverResult } from '../../src/maintenance/recover.ts';
import { type Installation, sound } from '../../src/maintenance/reindex.testing.ts';
import { parseBlobKey } from '../../src/oci/blob-key.ts';
import { digestToBytes } from '../../src/oci/digest.ts';
import { onFolder } from '../../src/opening.ts';
import { type Client, client } from '../support/client.ts';
import { describe as described, type Image, image, index, piece, randomPiece } from '../support/images.ts';
import { longshoreCommand, startLongshore } from '../support/server.ts';
import { temporaryFolder } from '../support/temp.ts';
import { leftOut, type Ran, runAny } from '../support/tools.ts';

const SETTINGS = {
  LONGSHORE_GC_ENABLED: 'false',
  LONGSHORE_GC_TICK: '1s',
  LONGSHORE_GC_GRACE_TICKS: '40',
  LONGSHORE_GC_UNDELETE_TICKS: '20',
  LONGSHORE_ACCESS_ANONYMOUS: 'push',
  LONGSHORE_STORAGE_DURABILITY: 'relaxed',
  LONGSHORE_LOG_ACCESS: 'false',
};
const GC = { tick: '1s', graceTicks: 40, undeleteTicks: 20, deleteAfterTicks: 1, haltPercent: 100 };
const SHARED = randomPiece(30_000);

interface Env {
  readonly data: string;
  readonly url?: string;
}

async function run({ data, url }: Env, args: readonly string[], more: Record<string, string> = {}): Promise<Ran> {
  const [program = '', ...rest] = longshoreCommand();
  const database = url === undefined ? {} : { LONGSHORE_DATABASE_URL: url };
  return runAny(program, [...rest, ...args, '--data', data], { cwd: data, env: { ...SETTINGS, ...database, ...more } });
}

function serve({ data, url }: Env) {
  const database = url === undefined ? {} : { LONGSHORE_DATABASE_URL: url };
  return startLongshore({ data, env: { ...SETTINGS, ...database } });
}

/** Lets ticks pass and collects, until nothing is left to do; then hands over what can be asked. No server may hold the folder. */
async function collected<T>({ data, url }: Env, work: (there: Installation) => Promise<T>): Promise<T> {
  const flags = { data, gc: GC, ...(url === undefined ? {} : { database: { url } }) };
  const { config } = await loadConfiguration({ flags, file: undefined });
  return onFolder(config, async (parts) => {
    const { database } = parts;
    const collecting = collectorFrom(config, parts);
    const { signal } = new AbortController();
    for (let round = 0; round < 4; round++) {
      for (let passed = 0; passed < 41; passed++) {
        const row = await database.query.get<{ tick: number }>('select tick from gc_clock where id = 1');
        await database.run(tickForward, { seen: row?.tick ?? 0 });
      }
      while ((await collecting.step(signal, { force: true })).more);
    }
    const rows = (text: string, ...values: readonly (string | number | Uint8Array)[]) =>
      database.query.all(text, ...values);
    return work({ ...parts, rows } as unknown as Installation);
  });
}

interface Tagged {
  readonly repository: string;
  readonly image: Image;
}

/** What clients were told. */
class Story {
  readonly kept: Tagged[] = [];
  readonly doomed: Tagged[] = [];
  /** Where each tag was put last. */
  readonly tags = new Map<string, string>();
  multi = index([]);

  async push(http: Client, repository: string, tag: string, to: Tagged[] = this.kept): Promise<Image> {
    const next = image({ layers: [SHARED, randomPiece(20_000), piece(`${repository}:${tag}`)] });
    await http.pushImage(repository, next, tag);
    to.push({ repository, image: next });
    this.tags.set(`${repository}:${tag}`, next.manifest.digest);
    return next;
  }

  async move(http: Client, repository: string, tag: string, image: Image): Promise<void> {
    assert.equal((await http.pushManifest(repository, image.manifest, tag)).status, 201);
    this.tags.set(`${repository}:${tag}`, image.manifest.digest);
  }

  /** Before the snapshot. */
  async begin(http: Client): Promise<void> {
    for (let at = 0; at < 6; at++) await this.push(http, `team/old-${at % 2}`, `v${at}`);
    for (let at = 0; at < 4; at++) await this.push(http, 'team/old-0', `doomed${at}`, this.doomed);
    // An index of which everything is deleted later, and an empty repository afterwards.
    const child = await this.push(http, 'team/gone', 'child', this.doomed);
    this.multi = index([described(child.manifest)]);
    assert.equal((await http.pushManifest('team/gone', this.multi, 'multi')).status, 201);
    await this.move(http, 'team/old-0', 'latest', this.kept[0]!.image);
  }

  /** After it: more than 100 commits. */
  async goOn(http: Client): Promise<void> {
    for (let at = 0; at < 14; at++) {
      const repository = at % 2 === 0 ? 'team/old-0' : `team/new-${at % 4}`;
      const next = await this.push(http, repository, `later${at}`);
      if (at % 2 === 0) await this.move(http, 'team/old-0', 'latest', next);
    }
    assert.equal((await http.send('DELETE', `/v2/team/gone/manifests/${this.multi.digest}`)).status, 202);
    for (const { repository, image: one } of this.doomed) {
      const path = `/v2/${repository}/manifests/${one.manifest.digest}`;
      assert.equal((await http.send('DELETE', path)).status, 202);
    }
    for (const name of this.tags.keys()) if (/doomed|child/.test(name)) this.tags.delete(name);
  }

  /** Behind the collection: bytes that were deleted come again, under keys of their own. */
  async again(http: Client): Promise<void> {
    const { repository, image: one } = this.doomed.shift()!;
    await http.pushImage(repository, one, 'again');
    this.kept.push({ repository, image: one });
    this.tags.set(`${repository}:again`, one.manifest.digest);
  }

  /** Everything that was acknowledged and not deleted is there byte for byte, and what was deleted is not. */
  async check(url: string): Promise<void> {
    const http = client(url);
    const wrong: string[] = [];
    for (const { repository, image: wanted } of this.kept) {
      for (const [kind, { digest, bytes }] of [
        ...wanted.blobs.map((blob) => ['blobs', blob] as const),
        ['manifests', wanted.manifest] as const,
      ]) {
        const got = await http.hash(`/v2/${repository}/${kind}/${digest}`);
        if (got.status !== 200 || got.digest !== digest || got.size !== bytes.length)
          wrong.push(`${repository} ${kind} ${digest}: ${got.status}`);
      }
    }
    for (const [name, digest] of this.tags) {
      const [repository, tag] = name.split(':');
      const got = await http.send('HEAD', `/v2/${repository}/manifests/${tag}`, { headers: { accept: '*/*' } });
      if (got.headers['docker-content-digest'] !== digest)
        wrong.push(`${name}: ${got.status}, ${got.headers['docker-content-digest']}`);
    }
    for (const { repository, image: one } of this.doomed) {
      const got = await http.hash(`/v2/${repository}/manifests/${one.manifest.digest}`);
      if (got.status !== 404) wrong.push(`${repository} ${one.manifest.digest} is back: ${got.status}`);
    }
    http.close();
    assert.deepEqual(wrong, []);
  }
}

/** The digests and numbers that the journal says are dead name no row, and nothing lies under them. */
async function deadStayDead({ storage, rows }: Installation, least: number): Promise<void> {
  const stored = new Set<string>();
  for await (const { key } of storage.list()) stored.add(key);
  let dead = 0;
  for await (const { key } of readJournal(storage.records)) {
    const { digest, n } = parseBlobKey(key)!;
    dead++;
    assert.deepEqual(
      await rows('select digest from blob where digest = ? and n = ?', digestToBytes(digest), n),
      [],
      key,
    );
    assert.ok(!stored.has(key), `${key} is stored`);
  }
  assert.ok(dead >= least, `${dead} keys in the journal`);
}

async function refused(env: Env): Promise<void> {
  for (const args of [
    ['serve', '--listen', '127.0.0.1:0'],
    ['gc', 'run'],
  ]) {
    const ran = await run(env, args);
    assert.equal(ran.code, 1, ran.stdout + ran.stderr);
    assert.match(ran.stdout + ran.stderr, /older than its storage.*longshore recover/s);
  }
}

async function recovered(env: Env): Promise<RecoverResult> {
  const ran = await run(env, ['recover', '--json']);
  assert.equal(ran.code, 0, ran.stdout + ran.stderr);
  const done = JSON.parse(ran.stdout) as RecoverResult;
  assert.ok(done.whole);
  assert.ok(done.deadSince >= 10, `${done.deadSince} dead`);
  return done;
}

/** Serves, looks, collects all that is to be collected, and looks again. */
async function checkWhole(env: Env, story: Story): Promise<void> {
  const server = await serve(env);
  await story.check(server.url);
  await server.stop();
  await collected(env, async (there) => {
    await sound(there, true);
    await deadStayDead(there, 10);
  });
  const last = await serve(env);
  await story.check(last.url);
  const http = client(last.url);
  await story.push(http, 'team/old-0', 'after-all');
  http.close();
  await story.check(last.url);
  await last.stop();
}

function copyDatabase(from: string, to: string): void {
  for (const name of ['longshore.db', 'side.db']) {
    using database = new DatabaseSync(join(from, name), { readOnly: true });
    database.prepare('vacuum into ?').run(join(to, name));
  }
}

function putBack(from: string, data: string): void {
  for (const name of ['longshore.db', 'side.db']) {
    for (const end of ['', '-wal', '-shm']) rmSync(join(data, name + end), { force: true });
    copyFileSync(join(from, name), join(data, name));
  }
}

describe('an older database', { concurrency: 2 }, () => {
  describe('an older copy of SQLite', { concurrency: 1 }, () => {
    const env: Env = { data: temporaryFolder('older') };
    const copy = temporaryFolder('older-copy');
    const story = new Story();

    test('made while it is served, put back 100 commits later: nothing serves it', async () => {
      const { data } = env;
      const server = await serve(env);
      const http = client(server.url);
      await story.begin(http);
      assert.equal((await run(env, ['drain'])).code, 0);
      copyDatabase(data, copy);
      await story.goOn(http);
      http.close();
      await server.kill();
      await collected(env, (there) => deadStayDead(there, 10));
      const second = await serve(env);
      const more = client(second.url);
      await story.again(more);
      assert.equal((await run(env, ['drain'])).code, 0);
      more.close();
      await second.kill();
      putBack(copy, data);
      await refused(env);
    });

    test('a recovery that is killed anywhere is run again; until it has ended nothing is served', async () => {
      const names = FAILPOINTS.filter((name) => name.startsWith('older.'));
      assert.ok(names.length >= 8);
      for (const name of names) {
        const ran = await run(env, ['recover'], { LONGSHORE_TEST_FAILPOINT: `${name}:1` });
        assert.equal(ran.signal, 'SIGKILL', `${name}: ${ran.stderr}`);
        if (name !== 'older.mark.after' && name !== 'older.end.before') continue;
        const served = await run(env, ['serve', '--listen', '127.0.0.1:0']);
        assert.equal(served.code, 1, name);
        assert.match(served.stdout + served.stderr, /recovery of this database has not ended/, name);
      }
    });

    test('recovered, it has what was acknowledged', async () => {
      putBack(copy, env.data);
      const done = await recovered(env);
      assert.ok(done.wasOlder && !done.resumed);
      const { merged } = done;
      assert.ok(merged !== undefined && merged.manifests >= 14 && merged.tags >= 15, JSON.stringify(merged));
      assert.equal(merged.newRepositories, 2);
      assert.ok(done.buried >= 5, JSON.stringify(done));
      await checkWhole(env, story);
    });

    test('recovered once more, nothing changes', async () => {
      const ran = await run(env, ['recover', '--json']);
      assert.equal(ran.code, 0, ran.stderr);
      const { wasOlder, merged, buried } = JSON.parse(ran.stdout) as RecoverResult;
      assert.deepEqual([wasOlder, buried, merged?.manifests, merged?.tags], [false, 0, 0, 0]);
      const server = await serve(env);
      await story.check(server.url);
      await server.stop();
    });
  });

  describe('an older copy of PostgreSQL', { concurrency: 1 }, () => {
    let postgres: TestServer | undefined;
    after(() => postgres?.stop());

    test('put in the place of the newer one under a running server: 503; recovered, it has what was acknowledged', async (t) => {
      try {
        postgres = await startPostgres();
      } catch (error) {
        if ((error as Error).constructor.name !== 'PostgresMissing' || process.env.LONGSHORE_TEST_ALL === '1')
          throw error;
        leftOut('an older database on PostgreSQL: needs PostgreSQL');
        return t.diagnostic('left out: PostgreSQL');
      }
      const env: Env = { data: temporaryFolder('older-pg'), url: await postgres.database('registry') };
      const story = new Story();
      const first = await serve(env);
      const http = client(first.url);
      await story.begin(http);
      http.close();
      assert.equal((await run(env, ['drain'])).code, 0);
      await first.stop();
      await postgres.sql('create database copy template registry');

      const server = await serve(env);
      const more = client(server.url);
      await story.goOn(more);
      await collected(env, (there) => deadStayDead(there, 10));
      await story.again(more);
      assert.equal((await run(env, ['drain'])).code, 0);
      assert.equal((await more.send('GET', '/readyz')).status, 200);
      await exchange(postgres, 'registry', 'newer', 'copy');
      const bodies: string[] = [];
      for (const [method, path] of [
        ['GET', '/v2/team/old-0/manifests/latest'],
        ['GET', '/v2/team/old-1/tags/list'],
      ] as const) {
        // Not one answer: the server knows what it wrote, and looks at each new connection before it asks for anything.
        const answer = await more.send(method, path);
        assert.equal(answer.status, 503, `${method} ${path}`);
      }
      assert.equal((await more.pushBlob('team/old-0', randomPiece(100))).status, 503);
      const [any] = story.kept;
      assert.equal((await more.pushManifest('team/old-1', any!.image.manifest, 'never')).status, 503);
      for (let tried = 0; tried < 100 && bodies.at(-1) !== 'database'; tried++) {
        const answer = await more.send('GET', '/readyz');
        if (answer.status === 503)
          bodies.push((JSON.parse(answer.body.toString()) as { reasons: string[] }).reasons.join());
        else await sleep(50);
      }
      assert.equal(bodies.at(-1), 'database');
      assert.match(server.output(), /restored or exchanged under this server/);
      // The newer one is back: it goes on by itself.
      await exchange(postgres, 'registry', 'copy', 'newer');
      for (let tried = 0; tried < 200 && (await more.send('GET', '/readyz')).status !== 200; tried++) await sleep(50);
      await story.check(server.url);
      more.close();
      const busy = await run(env, ['recover']);
      assert.equal(busy.code, 1);
      assert.match(busy.stderr, /in use/);
      await server.stop();

      await exchange(postgres, 'registry', 'newer', 'copy');
      await refused(env);
      const done = await recovered(env);
      assert.ok(done.wasOlder && done.buried >= 5 && (done.merged?.manifests ?? 0) >= 14, JSON.stringify(done));
      await checkWhole(env, story);
      // The copy that was newer is the one of before now.
      await exchange(postgres, 'registry', 'copy', 'newer');
      await refused(env);
    });
  });
});

/** Puts the database `other` in the place of `name`, which is called `aside` then. */
async function exchange({ sql }: TestServer, name: string, aside: string, other: string): Promise<void> {
  for (const one of [name, other]) {
    await sql(
      `alter database ${one} allow_connections false`,
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${one}'`,
    );
  }
  await sleep(50);
  await sql(
    `alter database ${name} rename to ${aside}`,
    `alter database ${other} rename to ${name}`,
    `alter database ${aside} allow_connections true`,
    `alter database ${name} allow_connections true`,
  );
}
