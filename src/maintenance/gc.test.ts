/** The collector on both databases. */
import { after } from 'node:test';
import { openTestPostgres, openTestSqlite, stopTestServer } from '../database/open.testing.ts';
import { postgresIsThere } from '../database/postgres/server.testing.ts';
import { collectorContract } from './gc.contract.ts';

collectorContract('the collector on SQLite', openTestSqlite, 10_000);

if (await postgresIsThere()) {
  after(stopTestServer);
  collectorContract('the collector on PostgreSQL', openTestPostgres, 500);
}
