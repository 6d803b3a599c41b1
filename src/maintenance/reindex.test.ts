/** The rebuild on both databases. */
import { after } from 'node:test';
import { openTestPostgres, openTestSqlite, stopTestServer } from '../database/open.testing.ts';
import { postgresIsThere } from '../database/postgres/server.testing.ts';
import { reindexContract } from './reindex.contract.ts';

reindexContract('reindex into SQLite', openTestSqlite, 5);

if (await postgresIsThere()) {
  after(stopTestServer);
  reindexContract('reindex into PostgreSQL', openTestPostgres, 2);
}
