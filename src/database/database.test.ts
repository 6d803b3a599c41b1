import { after } from 'node:test';
import { TEST_COMMANDS } from './commands.testing.ts';
import { databaseContract } from './database.contract.ts';
import { openTestPostgres, openTestSqlite, stopTestServer } from './open.testing.ts';
import { postgresIsThere } from './postgres/server.testing.ts';

const options = { commands: TEST_COMMANDS, writer: new URL('./writer.testing.ts', import.meta.url) };

databaseContract('sqlite', () => openTestSqlite(options));
if (await postgresIsThere()) {
  databaseContract('postgres', () => openTestPostgres(options));
  after(stopTestServer);
}
