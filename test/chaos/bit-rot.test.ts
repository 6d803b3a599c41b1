/**
 * Bit rot: one bit of each of a thousand stored blobs is turned over. Clients that pull them never get wrong bytes as a
 * complete answer; the scrub finds all of them, whatever kills the process meanwhile, and all are healed from a second
 * storage, after which every pull is right.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, client } from '../support/client.ts';
import { describe as describeBlob, jsonPiece, type Piece, randomPiece, TYPES } from '../support/images.ts';
import { choices, runSeed } from '../support/random.ts';
import { cleanEnvironment, longshoreCommand, startLongshore } from '../support/server.ts';
import { temporaryFolder } from '../support/temp.ts';
import { databaseFile, disagreements, hastenJobs } from './disk.ts';

const REPOSITORY = 'rot/app';
const CLIENTS = 8;
/** How many blobs of which size: inline at first, one read, several reads. */
const SIZES = [
  [700, 2_000],
  [170, 50_000],
  [60, 300_000],
  [10, 1_300_000],
] as const;
const MANIFESTS = 60;
const TOTAL = SIZES.reduce((sum, [count]) => sum + count, 0) + MANIFESTS;
/** Nothing here cuts the power: `relaxed` survives the end of a process. */
const BASE = { log: { access: false }, access: { anonymous: 'push' }, storage: { durability: 'relaxed' } };

interface Pushed {
  readonly blobs: readonly Piece[];
  readonly manifests: readonly Piece[];
}

/** All of them by so many at once. */
async function all<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const waiting = items.values();
  await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      for (const item of waiting) await work(item);
    }),
  );
}

async function push(http: Client): Promise<Pushed> {
  const blobs = SIZES.flatMap(([count, size]) => Array.from({ length: count }, () => randomPiece(size)));
  await all(blobs, async (blob) => assert.equal((await http.pushBlob(REPOSITORY, blob)).status, 201));
  const manifests = Array.from({ length: MANIFESTS }, (_, at) =>
    jsonPiece(
      {
        schemaVersion: 2,
        mediaType: TYPES.manifest,
        config: { ...describeBlob(blobs[at]!), mediaType: TYPES.config },
        layers: blobs.slice(at * 10, at * 10 + 10).map((blob) => describeBlob(blob)),
      },
      TYPES.manifest,
    ),
  );
  await all(manifests, async (manifest) => assert.equal((await http.pushManifest(REPOSITORY, manifest)).status, 201));
  return { blobs, manifests };
}

const pathOf = (kind: 'blobs' | 'manifests', { digest }: Piece): string => `/v2/${REPOSITORY}/${kind}/${digest}`;

/** Pulls one. Fails the test on a complete answer with other bytes; whether it was complete. */
async function pull(http: Client, kind: 'blobs' | 'manifests', piece: Piece): Promise<boolean> {
  const answer = await http.hash(pathOf(kind, piece)).catch(() => undefined);
  if (answer === undefined) return false;
  if (answer.status !== 200) {
    assert.equal(answer.status, 404, piece.digest);
    return false;
  }
  assert.equal(answer.digest, piece.digest, `${answer.size} wrong bytes were served as a complete answer`);
  return true;
}

/** Its output; it ends with 0, or 1 for a scrub that leaves damage behind. Never waited for in this thread: the server's log has to be read. */
async function longshore(data: string, expected: 0 | 1, ...args: string[]): Promise<string> {
  const [program = '', ...first] = longshoreCommand();
  const child = spawn(program, [...first, ...args, '--data', data], {
    env: cleanEnvironment(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [out, said] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  assert.equal(child.exitCode, expected, `${args.join(' ')}: ${out}${said}`);
  return out;
}

function rot(data: string, below: (limit: number) => number): number {
  const folder = join(data, 'storage/blobs');
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  for (const file of files) {
    const path = join(file.parentPath, file.name);
    const bytes = readFileSync(path);
    bytes[below(bytes.length)]! ^= 1 << below(8);
    writeFileSync(path, bytes);
  }
  return files.length;
}

/** Records of damage by who found it and what became of it. */
function records(data: string): Record<string, number> {
  using database = new DatabaseSync(databaseFile(data), { readOnly: true });
  const rows = database.prepare('select found_by, state, count(*) as count from damage group by 1, 2').all() as {
    found_by: string;
    state: string;
    count: number;
  }[];
  return Object.fromEntries(rows.map(({ found_by: by, state, count }) => [`${by} ${state}`, count]));
}

async function eventually(what: string, is: () => boolean): Promise<void> {
  for (let tries = 0; !is(); tries++) {
    assert.ok(tries < 2_400, what);
    await sleep(50);
  }
}

test(`${TOTAL} flipped bits: all found, none served as a complete answer, all healed from a second storage`, async (t) => {
  const seed = runSeed();
  t.diagnostic(`seed ${seed}`);
  const random = choices(seed);
  const data = temporaryFolder('rot');
  const replica = temporaryFolder('replica');
  const unlucky = temporaryFolder('rot-pulled');

  const first = await startLongshore({ data, config: { ...BASE, scrub: { enabled: false } } });
  let http = client(first.url, {}, CLIENTS);
  const pushed = await push(http);
  http.close();
  await first.stop();
  await longshore(data, 0, 'drain');
  cpSync(join(data, 'storage'), replica, { recursive: true });
  assert.equal(rot(data, random.below), TOTAL);
  cpSync(data, unlucky, { recursive: true, filter: (path) => !path.endsWith('.sock') });

  await t.test('pulled before anything was found', async () => {
    const server = await startLongshore({ data: unlucky, config: { ...BASE, scrub: { enabled: false } } });
    http = client(server.url, {}, CLIENTS);
    // Twice: the second time it is known.
    for (let again = 0; again < 2; again++) {
      await all(pushed.blobs, async (blob) => assert.equal(await pull(http, 'blobs', blob), false, blob.digest));
      // Manifests are in the database, whole.
      await all(pushed.manifests, async (one) => assert.equal(await pull(http, 'manifests', one), true));
    }
    http.close();
    assert.deepEqual(records(unlucky), { 'pull open': TOTAL - MANIFESTS });
    await server.stop();
  });

  await t.test('scrubbed by servers that are killed at each failpoint, then healed while clients pull', async () => {
    const scrub = { enabled: true, rate: 100_000, every: '30d' };
    const config = { ...BASE, scrub };
    const healing = { ...config, heal: { storages: [{ driver: 'fs', fs: { root: replica } }] } };
    const dies = async (name: string, count: number, what: object): Promise<void> => {
      hastenJobs(data);
      const server = await startLongshore({ data, config: what, failpoint: { name, count }, wait: false });
      let late = false;
      const timer = setTimeout(() => {
        late = true;
        void server.kill();
      }, 120_000);
      const exit = await server.exited;
      clearTimeout(timer);
      assert.ok(!late, `${name} was not reached:\n${server.output().slice(-3_000)}`);
      assert.equal(exit.signal, 'SIGKILL', server.output());
      assert.ok(!server.output().includes('is over'), name);
    };
    await dies('scrub.damage.before', 40, config);
    await dies('scrub.damage.after', 50, config);
    await dies('scrub.advance.before', 2, config);
    await dies('scrub.advance.after', 2, config);
    const found = Object.values(records(data)).reduce((sum, count) => sum + count, 0);
    assert.ok(found > 90 && found < TOTAL, `the scrub goes on where it was: ${found}`);

    // No source yet: all are found first. A job that took its process down so often rests; people can ask for it.
    const scrubbing = await startLongshore({ data, config });
    const run = JSON.parse(await longshore(data, 1, 'scrub', 'run', '--full-speed', '--json')) as {
      damaged: number;
      open: number;
    };
    assert.ok(run.damaged < TOTAL - found + 1, 'none is found twice');
    assert.deepEqual(records(data), { 'scrub open': TOTAL - MANIFESTS, 'scrub healed': MANIFESTS });
    http = client(scrubbing.url, {}, CLIENTS);
    await all(pushed.blobs.slice(0, 50), async (blob) => {
      for (const method of ['HEAD', 'GET']) assert.equal((await http.send(method, pathOf('blobs', blob))).status, 404);
    });
    const metrics = (await http.send('GET', '/metrics')).body.toString();
    assert.match(metrics, new RegExp(`longshore_damaged_blobs ${TOTAL - MANIFESTS}\\b`));
    http.close();
    const status = JSON.parse(await longshore(data, 0, 'scrub', 'status', '--json')) as { open: number };
    assert.equal(status.open, TOTAL - MANIFESTS);
    assert.match(
      await longshore(data, 0, 'scrub', 'damaged', '--limit', '3'),
      /^(sha256:.* by scrub: its bytes have another digest.*\n){3}$/,
    );
    await scrubbing.stop();

    await dies('heal.live.before', 30, healing);
    await dies('heal.live.after', 30, healing);
    hastenJobs(data);
    const server = await startLongshore({ data, config: healing });
    http = client(server.url, {}, CLIENTS);
    let pulling = true;
    const pulls = Promise.all(
      Array.from({ length: 3 }, async () => {
        while (pulling) await pull(http, 'blobs', random.pick(pushed.blobs)!);
      }),
    );
    await eventually('all are healed', () => records(data)['scrub open'] === undefined);
    pulling = false;
    await pulls;
    assert.deepEqual(records(data), { 'scrub healed': TOTAL });
    await all(pushed.blobs, async (blob) => assert.equal(await pull(http, 'blobs', blob), true, blob.digest));
    await all(pushed.manifests, async (one) => assert.equal(await pull(http, 'manifests', one), true));
    http.close();
    await server.stop();
    assert.deepEqual(disagreements(data), [], 'files and rows agree');
    await longshore(data, 0, 'drain');
    const again = await longshore(data, 0, 'scrub', 'run', '--full-speed');
    assert.match(again, new RegExp(`^${TOTAL} blobs .* 0 damaged, 0 that could not be read; 0 were healed, 0 are`));
  });
});
