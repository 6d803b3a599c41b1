/**
 * The same clients, collectors and spills at once on a real PostgreSQL, where the statements of different transactions
 * mix. Every so often all of them stop, and the invariants are looked at in a copy of the tables.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { COMMANDS } from '../../src/commands.ts';
import type { Database } from '../../src/database/database.ts';
import { openTestPostgres, stopTestServer } from '../../src/database/open.testing.ts';
import { postgresIsThere } from '../../src/database/postgres/server.testing.ts';
import { systemClock } from '../../src/kit/clock.ts';
import { noMetrics, silentLog } from '../../src/kit/log.ts';
import { tickForward, usageFold } from '../../src/local/commands/house-keeping.ts';
import { type Local, openLocal } from '../../src/local/open.ts';
import { expireUploads } from '../../src/maintenance/expire.ts';
import { type Collector, collector } from '../../src/maintenance/gc.ts';
import { spill } from '../../src/maintenance/spill.ts';
import { RegistryError } from '../../src/oci/error.ts';
import type { RepositoryName } from '../../src/oci/names.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import type { BlobStorage } from '../../src/storage/storage.ts';
import { choices } from '../support/random.ts';
import { act, type ClientWorld } from './clients.ts';
import { broken, isServed, isThere, leftover, SPARSE } from './invariants.ts';
import { Ledger } from './ledger.ts';
import { ModelDatabase } from './model-database.ts';
import { Disk } from './model-storage.ts';
import { noCounts } from './options.ts';
import { BLOBS, MANIFESTS } from './universe.ts';

const TICKS = { grace: 4, undelete: 3, uploadLifetime: 3 };
const ROUNDS = Number(process.env.LONGSHORE_TEST_ROUNDS ?? 12);
/** Calls of each client in a round. */
const CALLS = 25;
const CLIENTS = 8;
const MENU = [
  'push',
  'push',
  'blob',
  'head',
  'manifest',
  'pull',
  'unlink',
  'delete',
  'delete',
  'untag',
  'restore',
  'rollback',
];
const TABLES =
  'gc_clock repository blob content link manifest reference tag upload gc_queue dead_key orphan hold usage usage_delta lease'.split(
    ' ',
  );

/** One server of two: its stores. */
interface Server {
  readonly plain: Local;
  readonly sparse: Local;
}

async function copy(from: Database, into: ModelDatabase): Promise<void> {
  into.all('pragma defer_foreign_keys = on');
  for (const table of TABLES) {
    into.all(`delete from ${table}`);
    for (const row of await from.query.all<Record<string, never>>(`select * from ${table}`)) {
      const names = Object.keys(row);
      into.all(
        `insert into ${table} (${names.join(', ')}) values (${names.map(() => '?').join(', ')})`,
        ...names.map((name) => row[name] as never),
      );
    }
  }
}

async function copyDisk(from: BlobStorage): Promise<Disk> {
  const disk = new Disk();
  for await (const { key } of from.list()) {
    const chunks: Buffer[] = [];
    for await (const chunk of await from.read(key)) chunks.push(chunk as Buffer);
    disk.hold(key, Buffer.concat(chunks));
    disk.sync(key);
  }
  for await (const id of from.listUploads()) disk.uploads.set(id, { bytes: Buffer.alloc(0), synced: 0 });
  return disk;
}

if (await postgresIsThere()) {
  after(stopTestServer);
  test('clients and collectors at once on PostgreSQL break nothing', async (t) => {
    const { database, stop } = await openTestPostgres({ commands: COMMANDS, ticks: TICKS });
    const model = await ModelDatabase.open();
    model.begin(undefined);
    const storage = memoryStorage();
    const parts = { database, storage, clock: systemClock, log: silentLog, metrics: noMetrics };
    const opened = { ...parts, tickMilliseconds: 3_600_000, movesTick: false } as const;
    const servers: Server[] = [];
    for (let server = 0; server < 2; server++)
      servers.push({
        plain: await openLocal({ ...opened, sparse: 'none' }),
        sparse: await openLocal({ ...opened, sparse: 'all' }),
      });
    const settings = { deleteAfterTicks: 1, sweepTicks: 1_000_000, haltShare: 1 };
    const collectors: Collector[] = [collector({ ...parts, settings }), collector({ ...parts, settings })];
    const { signal } = new AbortController();
    const spiller = spill(parts);
    const defects: string[] = [];
    const seed = Number(process.env.LONGSHORE_TEST_SEED ?? Math.floor(Math.random() * 2 ** 30));
    const random = choices(seed);
    let tick = 1;
    const world: ClientWorld = {
      ledger: new Ledger(),
      scheduler: {
        get tick() {
          return tick;
        },
      },
      ticks: TICKS,
      counts: noCounts(),
      blobs: BLOBS,
      manifests: MANIFESTS,
      menu: MENU,
      repository: (from) => from.pick(['a', 'b', 's'] as RepositoryName[]) as RepositoryName,
      defect: (why) => defects.push(why),
      refused(error, { what }) {
        const code = error instanceof RegistryError ? error.code : 'none';
        if (code === 'UNKNOWN' || code === 'none')
          defects.push(
            `a call about ${what} failed: ${(error as Error).stack}\n${((error as Error).cause as Error)?.stack}`,
          );
      },
      expectTag: async () => undefined,
      expectGone: async () => undefined,
    };
    const move = async (): Promise<void> => {
      tick = await database.run(tickForward, { seen: tick });
    };
    const client = async (number: number): Promise<void> => {
      const { plain, sparse } = servers[number % servers.length] as Server;
      const instance = {
        process: { name: `c${number}`, alive: true, pausedUntil: 0 },
        store: (repository: string) => (SPARSE.has(repository) ? sparse : plain),
      };
      const own = choices(random.below(2 ** 30));
      for (let done = 0; done < CALLS; done++) await act({ world, instance, choices: own });
    };
    try {
      for (let round = 0; round < ROUNDS; round++) {
        let running = true;
        const endless = async (work: () => Promise<unknown>): Promise<void> => {
          while (running) await work();
        };
        const house = [
          ...collectors.map((one) => endless(() => one.step(signal))),
          endless(() => spiller.run(10, signal)),
          endless(() => expireUploads(parts, signal)),
          endless(() => database.run(usageFold, {})),
          endless(async () => {
            await systemClock.sleep(40);
            await move();
          }),
        ];
        await Promise.all(Array.from({ length: CLIENTS }, (_, number) => client(number)));
        running = false;
        await Promise.all(house);
        await copy(database, model);
        const disk = await copyDisk(storage);
        for (const [key, { repository, what, until }] of world.ledger.promises) {
          if (until < tick) world.ledger.promises.delete(key);
          else if (!isServed(model, repository, what.slice('blob:'.length)))
            defects.push(`I2: ${what} in ${repository} was promised until ${until}, it is ${tick}`);
        }
        for (const { repository, what, there } of world.ledger.manifests.values())
          if (isThere(model, repository, what.slice('manifest:'.length)) !== there)
            defects.push(`I1: ${what} in ${repository} is ${there ? 'not ' : ''}there`);
        const why = broken(model, disk);
        if (why !== undefined) defects.push(why);
        assert.deepEqual(defects, [], `seed ${seed}, round ${round}`);
      }
      for (let round = 0; round < 6; round++) {
        await spiller.run(1_000, signal);
        await expireUploads(parts, signal);
        for (const one of collectors) while ((await one.step(signal)).more);
        for (let passed = 0; passed < 6; passed++) await move();
      }
      await copy(database, model);
      const disk = await copyDisk(storage);
      assert.equal(broken(model, disk) ?? leftover(model, disk), undefined, `seed ${seed}`);
      const [seen] = await database.query.all<{ deadlocks: number }>(
        'select deadlocks from pg_stat_database where datname = current_database()',
      );
      t.diagnostic(`seed ${seed}: ${JSON.stringify(world.counts)}, ${tick} ticks, ${seen?.deadlocks} deadlocks`);
      assert.ok(world.counts.pushes > 50 && world.counts.deletes > 5);
    } finally {
      for (const { plain, sparse } of servers) await Promise.all([plain.close(), sparse.close()]);
      model.reset();
      model.close();
      await stop();
    }
  });
}
