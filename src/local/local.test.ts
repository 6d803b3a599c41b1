/** The store over files keeps the contract of the seam, on both databases. */
import { after } from 'node:test';
import { Client } from 'pg';
import { openPostgres } from '../database/open.ts';
import { postgresIsThere, startPostgres } from '../database/postgres/server.testing.ts';
import { registryContract } from '../registry/registry.contract.ts';
import { DATABASE_FOR_TEST, freshLocal } from './fresh.testing.ts';

registryContract('local (files, SQLite)', () => freshLocal());

if (await postgresIsThere()) {
  const server = await startPostgres();
  after(() => server.stop());
  registryContract('local (files, PostgreSQL)', () =>
    freshLocal({
      async openDatabase() {
        await empty(server.url);
        return openPostgres({ ...DATABASE_FOR_TEST, url: server.url });
      },
    }),
  );
}

/** Drops every table, so that the migrations run anew: quicker than a new database. */
async function empty(url: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query('drop schema public cascade; create schema public');
  await client.end();
}
