/**
 * The program's database without its threads: the same files, migrations, connections, batches and look-ups as
 * `openSqlite`, all in this thread, so that hundreds of states can be opened in seconds. Some states are opened by
 * `openSqlite` itself as well.
 */
import { COMMANDS } from '../../../src/commands.ts';
import type { Database } from '../../../src/database/database.ts';
import { forSqlite } from '../../../src/database/dialect.ts';
import { fromWire } from '../../../src/database/faults.ts';
import { kyselyOver } from '../../../src/database/kysely.ts';
import { filesOf } from '../../../src/database/open.ts';
import { Batches, type Ending } from '../../../src/database/sqlite/batch.ts';
import { Connection } from '../../../src/database/sqlite/connection.ts';
import { openHot } from '../../../src/database/sqlite/hot.ts';
import { migrateSqlite } from '../../../src/database/sqlite/migrate.ts';
import { takeFolder } from '../../../src/database/sqlite/owner.ts';
import { Touched } from '../../../src/database/touched.ts';
import { systemClock } from '../../../src/kit/clock.ts';
import { MIGRATIONS } from '../../../src/migrations.ts';
import { TICKS } from './record.ts';

/** Opens the files of a folder, as `openSqlite` does. What is written to a state need not survive: commits do not wait for the disk. */
export async function openQuietly(folder: string): Promise<Database> {
  const owner = takeFolder(folder);
  const files = filesOf(folder);
  const durability = 'relaxed';
  try {
    await migrateSqlite(files, durability, MIGRATIONS, systemClock.now());
  } catch (error) {
    owner.release();
    throw error;
  }
  const hot = openHot(files.path);
  const reader = new Connection({ ...files, readOnly: true, durability, cacheKib: 2048 });
  const touched = new Touched();
  const batches = new Batches({
    commands: COMMANDS,
    ticks: TICKS,
    open: () => new Connection({ ...files, readOnly: false, durability, cacheKib: 2048 }),
    monotonic: systemClock.monotonic,
  });
  let queue: Promise<unknown> = Promise.resolve();
  async function one(name: string, args: unknown): Promise<unknown> {
    let ending: Ending | undefined;
    await batches.run([{ name, args }], systemClock.now(), (part) => {
      if (part.touched.length > 0) touched.tell(part.touched as never);
      ending ??= part.endings[0];
    });
    if (ending?.ok !== true) throw fromWire(ending!.error);
    return ending.result;
  }
  return {
    dialect: 'sqlite',
    shared: false,
    hot: hot.hot,
    read: kyselyOver('sqlite', async (text, values) => ({ rows: reader.all(text, values) })),
    query: {
      all: async <Row>(text: string, ...values: readonly unknown[]) => reader.all<Row>(forSqlite(text), values),
      get: async <Row>(text: string, ...values: readonly unknown[]) => reader.get<Row>(forSqlite(text), values),
    },
    ticks: TICKS,
    run(command, args) {
      const done = queue.then(() => one(command.name, args));
      queue = done.catch(() => undefined);
      return done as never;
    },
    onTouched: touched.on,
    dataVersion: () => undefined,
    async ping() {},
    async close() {
      await queue;
      reader.close();
      batches.close();
      hot.close();
      owner.release();
    },
  };
}
