/** The mark in storage and the recovery on both databases. */
import { after } from 'node:test';
import { openTestPostgres, openTestSqlite, stopTestServer } from '../database/open.testing.ts';
import { postgresIsThere } from '../database/postgres/server.testing.ts';
import { recoverContract } from './recover.contract.ts';

recoverContract('a recovery of SQLite', openTestSqlite, 4);

if (await postgresIsThere()) {
  after(stopTestServer);
  recoverContract('a recovery of PostgreSQL', openTestPostgres, 1);
}
