/** `longshore migrate`: moves an installation between SQLite and PostgreSQL. */
import { resolve } from 'node:path';
import { migrateInstallation } from '../migrating.ts';
import { type Given, UsageError } from './command-line.ts';
import { configurationOf } from './settings.ts';

/** Absent flags mean what is configured: from the data folder, to `database.url`. */
export async function migrateDatabase(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  const from = given.flags.from ?? `sqlite://${resolve(config.data)}`;
  const to = given.flags.to ?? config.database.url;
  if (typeof from !== 'string' || typeof to !== 'string') {
    throw new UsageError('Say where to: --to postgres://…, or database.url (LONGSHORE_DATABASE_URL).');
  }
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  const { tables } = await migrateInstallation({
    from,
    to,
    progress: (table, rows) => say(`${table.padEnd(24)} ${rows}`),
  });
  const rows = tables.reduce((sum, table) => sum + table.rows, 0);
  say(
    `Moved ${rows} rows of ${tables.length} tables; the counts are alike on both sides. The source was left as it is.`,
  );
  say('The bytes in storage do not move: start the server with the new database and the same storage,');
  say('and never again with the old one: each would delete what only the other knows.');
  return 0;
}
