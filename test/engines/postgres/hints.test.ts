/** Two processes on one PostgreSQL: jobs run once, hints arrive, also after their connection broke. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { accountAdd } from '../../../src/access/commands/account.ts';
import { COMMANDS } from '../../../src/commands.ts';
import type { Database } from '../../../src/database/database.ts';
import { openPostgres } from '../../../src/database/open.ts';
import { postgresIsThere } from '../../../src/database/postgres/server.testing.ts';
import type { Job } from '../../../src/jobs/job.ts';
import { startJobs } from '../../../src/jobs/start.ts';
import { systemClock } from '../../../src/kit/clock.ts';
import { noMetrics, silentLog } from '../../../src/kit/log.ts';
import { tickForward } from '../../../src/local/commands/house-keeping.ts';
import { expireUploads, sweepUploads } from '../../../src/maintenance/expire.ts';
import { MIGRATIONS } from '../../../src/migrations.ts';
import type { UploadId } from '../../../src/oci/names.ts';
import { openFsStorage } from '../../../src/storage/fs/fs.ts';
import { newSetup, postgres, stopPostgres, until } from './fleet.ts';

function openOn(url: string): Promise<Database> {
  return openPostgres({
    url,
    connections: 4,
    commands: COMMANDS,
    migrations: MIGRATIONS,
    ticks: { grace: 8, undelete: 4, uploadLifetime: 3 },
    log: silentLog,
    metrics: noMetrics,
    clock: systemClock,
  });
}

if (await postgresIsThere()) {
  describe('two processes on one PostgreSQL', () => {
    after(stopPostgres);

    test('both make the tables at once', async () => {
      const { url } = await newSetup();
      const both = await Promise.all([openOn(url), openOn(url)]);
      for (const database of both) {
        const row = await database.query.get<{ n: number }>('select count(*) as n from migration');
        assert.equal(row?.n, MIGRATIONS.length);
      }
      await Promise.all(both.map((database) => database.close()));
    });

    test('each job runs once, in whichever process', async () => {
      const { url } = await newSetup();
      const both = [await openOn(url), await openOn(url)];
      const ran = new Map<number, number>();
      const job: Job<number> = {
        type: 'count',
        parse: Number,
        concurrency: 4,
        maxAttempts: 3,
        leaseSeconds: 60,
        async run(_context, number) {
          ran.set(number, (ran.get(number) ?? 0) + 1);
        },
      };
      const givers = [{ name: 'test', jobs: [job] }];
      const rooms = both.map((database) =>
        startJobs({ database, givers, clock: systemClock, log: silentLog, metrics: noMetrics }),
      );
      await Promise.all(
        Array.from({ length: 60 }, (_, number) => rooms[number % 2]!.queue.enqueue({ type: 'count', payload: number })),
      );
      await until(
        'jobs',
        async () => ran.size,
        (size) => size === 60,
      );
      await Promise.all(rooms.map((room) => room.idle()));
      assert.deepEqual([...new Set(ran.values())], [1]);
      await Promise.all(rooms.map((room) => room.stop()));
      await Promise.all(both.map((database) => database.close()));
    });

    test('a file of an upload without a row goes when a grace has passed, and not at a start', async () => {
      const { url, storage: root } = await newSetup();
      const database = await openOn(url);
      const storage = await openFsStorage({ root, durability: 'relaxed' });
      const parts = { database, storage, log: silentLog };
      const { signal } = new AbortController();
      const files = async () => {
        const found: string[] = [];
        for await (const file of storage.listUploads()) found.push(file);
        return found.sort();
      };
      const forward = async (ticks: number) => {
        for (let count = 0; count < ticks; count++) {
          const seen = await database.query.get<{ tick: number }>('select tick from gc_clock');
          await database.run(tickForward, { seen: seen!.tick });
        }
      };
      await storage.begin('left' as UploadId, {});
      assert.equal(await sweepUploads(parts), 0);
      await expireUploads(parts, signal);
      await forward(7);
      await storage.begin('under-way' as UploadId, {});
      await expireUploads(parts, signal);
      assert.deepEqual(await files(), ['left', 'under-way']);
      await forward(1);
      await expireUploads(parts, signal);
      assert.deepEqual(await files(), ['under-way']);
      await storage.discard('under-way' as UploadId, {});
      await forward(2);
      await expireUploads(parts, signal);
      const marks = await database.query.get<{ n: number }>('select count(*) as n from orphan');
      assert.equal(marks?.n, 0);
      await storage.close();
      await database.close();
    });

    test('a change of accounts is told to the other process, also after its connection broke', async () => {
      const { url } = await newSetup();
      const [here, there] = [await openOn(url), await openOn(url)];
      let heard = 0;
      let own = 0;
      here.hints?.on('access', () => own++);
      there.hints?.on('access', () => heard++);
      const arrive = async (): Promise<void> => {
        await until(
          'hints',
          async () => here.hints?.arrive === true && there.hints?.arrive === true,
          (yes) => yes,
        );
      };
      await arrive();
      // Whatever came before the server confirmed may have been missed: each was told, at each connection.
      await until(
        'being told at the start',
        async () => Math.min(own, heard),
        (count) => count >= 1,
      );
      const [ownBefore, heardBefore] = [own, heard];
      const add = (name: string) => here.run(accountAdd, { uid: name, name, passwordHash: '' });
      await add('ann');
      await until(
        'the hint',
        async () => heard,
        (count) => count > heardBefore,
      );
      assert.equal(own, ownBefore, 'a process is not told of its own changes');
      const pg = await postgres();
      const heardUntilHere = heard;
      await pg.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'longshore' and query like 'listen%'",
      );
      await until(
        'telling after the connection broke',
        async () => heard,
        (count) => count > heardUntilHere,
      );
      await arrive();
      const before = heard;
      await add('bob');
      await until(
        'the hint',
        async () => heard,
        (count) => count > before,
      );
      await Promise.all([here.close(), there.close()]);
    });
  });
}
