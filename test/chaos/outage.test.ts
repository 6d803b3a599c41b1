/**
 * Parts of an installation that go away and come back under the running program: the database's files, the lock, the
 * storage folder, the right to write, descriptors. Each time pushes are answered 503 with a reason, `/readyz` names
 * the part, reads go on where they can, and it recovers without a restart. Nothing that was acknowledged is lost.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readdirSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Answer } from '../support/client.ts';
import { randomPiece } from '../support/images.ts';
import { startLongshore } from '../support/server.ts';
import { temporaryFolder } from '../support/temp.ts';
import { withTools } from '../support/tools.ts';
import { disagreements } from './disk.ts';
import { attach, type CallKind, threads } from './inject/tracer.ts';
import { isOutage, type Work, work } from './inject/workload.ts';

const CONFIG = { log: { access: false, level: 'warn' } };
const REPOSITORY = 'outage/here';
const MIB = 1024 * 1024;

/** What goes away, how, and what it means. `large`: what a stored blob answers meanwhile. */
interface Outage {
  readonly name: string;
  readonly part: 'database' | 'storage';
  readonly begin: () => void | Promise<void>;
  readonly end: () => void | Promise<void>;
  readonly message: RegExp;
  readonly large: 200 | 503;
}

/** Standard input, output and error stand before it. */
const FIRST_DESCRIPTOR = 3;

/** Whether a descriptor is in use, and not by a connection, which may end. */
function isKept(pid: number, descriptor: number): boolean {
  try {
    return !readlinkSync(`/proc/${pid}/fd/${descriptor}`).startsWith('socket:');
  } catch {
    return false;
  }
}

/** What it says of itself; asked again for a while, because an answer is kept for a second. */
async function readiness(worker: Work, wanted: number): Promise<Answer> {
  let answer = await worker.http.send('GET', '/readyz');
  for (let tries = 0; tries < 600 && answer.status !== wanted; tries++) {
    await sleep(100);
    answer = await worker.http.send('GET', '/readyz');
  }
  return answer;
}

async function during(outage: Outage, worker: Work): Promise<void> {
  const { http } = worker;
  const base = `/v2/${REPOSITORY}`;
  for (const size of [100, MIB]) {
    if (outage.part === 'storage' && size === 100) continue;
    const refused = await http.pushBlob(REPOSITORY, randomPiece(size));
    assert.ok(isOutage(refused), `${outage.name}: ${refused.status} ${refused.body}`);
    assert.match(refused.body.toString(), outage.message, outage.name);
  }
  const ready = await readiness(worker, 503);
  assert.equal(ready.status, 503, `${outage.name}: ${ready.body}`);
  assert.ok(JSON.parse(ready.body.toString()).reasons.includes(outage.part), `${outage.name}: ${ready.body}`);
  assert.equal((await http.send('GET', '/livez')).status, 200);
  assert.equal((await http.hash(`${base}/manifests/moving`)).status, 200, outage.name);
  for (const { manifest, blobs } of worker.there()) {
    assert.equal((await http.hash(`${base}/manifests/${manifest.digest}`)).digest, manifest.digest);
    for (const blob of blobs) {
      assert.equal((await http.send('HEAD', `${base}/blobs/${blob.digest}`)).status, 200, outage.name);
      const got = await http.send('GET', `${base}/blobs/${blob.digest}`);
      if (got.status === 200) assert.equal(got.body.length, blob.bytes.length);
      else assert.ok(isOutage(got), `${outage.name}: ${got.status} ${got.body}`);
      if (blob.bytes.length >= MIB)
        assert.equal(got.status, outage.large, `${outage.name}: ${got.body.subarray(0, 200)}`);
    }
  }
}

async function goesThrough(outages: readonly Outage[], worker: Work, output: () => string): Promise<void> {
  for (const outage of outages) {
    await outage.begin();
    try {
      await during(outage, worker);
    } catch (error) {
      throw new Error(`${outage.name}\n${output().slice(-2_000)}`, { cause: error });
    } finally {
      await outage.end();
    }
    await worker.recovered();
    assert.equal((await readiness(worker, 200)).status, 200, `${outage.name}: it is not ready again`);
    await worker.round();
    await worker.verify('all');
    assert.deepEqual(worker.wrong, [], outage.name);
  }
}

withTools(['strace', 'prlimit'], 'outages', (strace, prlimit) => {
  test('files, locks, folders and descriptors go away and come back', async () => {
    const data = temporaryFolder('outage');
    const server = await startLongshore({ data, config: CONFIG, env: { UV_THREADPOOL_SIZE: '1' } });
    const worker = work(server.url, REPOSITORY);
    for (let n = 0; n < 2; n++) await worker.round();
    const at = (name: string): string => join(data, name);
    const away = (name: string) => () => renameSync(at(name), at(`${name}.away`));
    const back = (name: string) => () => renameSync(at(`${name}.away`), at(name));
    let locker: DatabaseSync | undefined;
    let tracer: Awaited<ReturnType<typeof attach>> | undefined;
    const changing: readonly CallKind[] = ['write', 'sync', 'rename', 'link', 'unlink', 'mkdir', 'truncate'];
    const failing = (error: string) => async () => {
      const ids = [...threads(server.pid, 'pool'), ...threads(server.pid, 'writer')];
      tracer = await attach(strace, ids, { calls: changing, error, when: '1+' });
    };
    const limit = (files: string) => void execFileSync(prlimit, ['--pid', String(server.pid), `--nofile=${files}:`]);
    const outages: readonly Outage[] = [
      {
        name: 'longshore.db is moved away',
        part: 'database',
        begin: away('longshore.db'),
        end: back('longshore.db'),
        message: /longshore\.db is gone/,
        large: 200,
      },
      {
        name: 'longshore.db is replaced',
        part: 'database',
        begin() {
          away('longshore.db')();
          writeFileSync(at('longshore.db'), 'something else');
        },
        end: back('longshore.db'),
        message: /replaced/,
        large: 200,
      },
      {
        name: 'side.db is moved away',
        part: 'database',
        begin: away('side.db'),
        end: back('side.db'),
        message: /side\.db is gone/,
        large: 200,
      },
      {
        name: 'the database is locked',
        part: 'database',
        begin() {
          locker = new DatabaseSync(at('longshore.db'), { timeout: 60_000 });
          locker.exec('begin exclusive');
        },
        end() {
          locker?.exec('rollback');
          locker?.close();
        },
        message: /locked/,
        large: 200,
      },
      {
        name: 'the storage folder is moved away',
        part: 'storage',
        begin: away('storage'),
        end: back('storage'),
        message: /storage folder is gone|still mounted/,
        large: 503,
      },
      {
        name: 'the storage is not mounted',
        part: 'storage',
        begin() {
          away('storage')();
          for (const name of ['blobs/sha256', 'uploads', 'records'])
            mkdirSync(at(`storage/${name}`), { recursive: true });
        },
        end() {
          assert.deepEqual(readdirSync(at('storage/blobs/sha256')), [], 'nothing was stored in the wrong folder');
          rmSync(at('storage'), { recursive: true });
          back('storage')();
        },
        message: /Another folder/,
        large: 503,
      },
      {
        name: 'the disk is read-only',
        part: 'database',
        begin: failing('EROFS'),
        end: async () => void (await tracer?.detach()),
        message: /read-only|reported an error/,
        large: 200,
      },
      {
        name: 'the disk fails',
        part: 'storage',
        begin: failing('EIO'),
        end: async () => void (await tracer?.detach()),
        message: /input\/output|reported an error/,
        large: 200,
      },
      {
        name: 'no descriptor is left',
        part: 'storage',
        async begin() {
          // Connections that are open already: no other can be accepted, and a refused push may end one.
          await Promise.all(Array.from({ length: 8 }, () => worker.http.send('GET', '/livez')));
          // Only low numbers, which are taken for good: one of a connection that ends cannot be used again.
          let free = 20;
          for (let sample = 0; sample < 20; sample++) {
            let first = FIRST_DESCRIPTOR;
            while (first < free && isKept(server.pid, first)) first++;
            free = Math.min(free, first);
            await sleep(10);
          }
          limit(String(free));
        },
        end: () => limit('1024'),
        message: /too many files are open/,
        large: 503,
      },
    ];
    await goesThrough(outages, worker, server.output);
    assert.ok(!/"code":"bug"/.test(server.output()), server.output().slice(-3_000));
    await server.stop();
    assert.deepEqual(disagreements(data), []);
    const again = await startLongshore({ data, config: CONFIG, port: server.port });
    await worker.verify('all');
    assert.deepEqual(worker.wrong, []);
    worker.close();
    await again.stop();
  });
});

withTools(['setpriv'], 'lost rights', (setpriv) => {
  test('the right to the storage folder goes away and comes back', async () => {
    const data = temporaryFolder('rights');
    const root = process.getuid?.() === 0;
    // Root may everything: then the program runs as somebody else.
    if (root) chownSync(data, 65_534, 65_534);
    const wrapper = root ? [setpriv, '--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all'] : [];
    // Without a configuration file, which that user could not read.
    const server = await startLongshore({ data, wrapper });
    const worker = work(server.url, REPOSITORY);
    await worker.round();
    const storage = join(data, 'storage');
    const rights = {
      name: 'no right',
      part: 'storage' as const,
      begin: () => chmodSync(storage, 0),
      end: () => chmodSync(storage, 0o700),
    };
    await goesThrough([{ ...rights, message: /may not do that/, large: 503 }], worker, server.output);
    worker.close();
    await server.stop();
  });
});

test('a log that cannot be written hurts nobody', async () => {
  const wrapper = ['sh', '-c', 'exec "$@" 2>/dev/full', 'sh'];
  const server = await startLongshore({ config: { log: { access: '/dev/full', level: 'debug' } }, wrapper });
  const worker = work(server.url, REPOSITORY);
  for (let n = 0; n < 3; n++) await worker.round();
  await worker.verify('all');
  assert.deepEqual(worker.wrong, []);
  worker.close();
  await server.stop();
});
