import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { openPostgres, openSqlite } from '../database/open.ts';
import { postgresIsThere, startPostgres, type TestServer } from '../database/postgres/server.testing.ts';
import { systemClock } from '../kit/clock.ts';
import { noMetrics, silentLog } from '../kit/log.ts';
import { MIGRATIONS } from '../migrations.ts';
import { TEST_COMMANDS } from './commands.testing.ts';
import { jobQueueContract } from './job-queue.contract.ts';

const shared = {
  commands: TEST_COMMANDS,
  migrations: MIGRATIONS,
  ticks: { grace: 10, undelete: 100, uploadLifetime: 10 },
  log: silentLog,
  metrics: noMetrics,
  clock: systemClock,
};

jobQueueContract('SQLite', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longshore-jobs-'));
  const database = await openSqlite({
    ...shared,
    folder,
    durability: 'relaxed',
    entries: { writer: new URL('./writer.testing.ts', import.meta.url) },
  });
  return {
    database,
    async close() {
      await database.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
});

if (await postgresIsThere()) {
  let server: Promise<TestServer> | undefined;
  let count = 0;
  jobQueueContract('PostgreSQL', async () => {
    server ??= startPostgres();
    const url = await (await server).database(`jobs${++count}`);
    const database = await openPostgres({ ...shared, url });
    return { database, close: () => database.close() };
  });
  after(async () => (await server)?.stop());
}
