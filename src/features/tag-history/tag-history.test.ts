/** Tag history and holds on both databases. */
import { after } from 'node:test';
import { openTestPostgres, openTestSqlite, stopTestServer } from '../../database/open.testing.ts';
import { postgresIsThere } from '../../database/postgres/server.testing.ts';
import { tagHistoryContract } from './tag-history.contract.ts';

tagHistoryContract('tag history on SQLite', openTestSqlite);

if (await postgresIsThere()) {
  after(stopTestServer);
  tagHistoryContract('tag history on PostgreSQL', openTestPostgres);
}
