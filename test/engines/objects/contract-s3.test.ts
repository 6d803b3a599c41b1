/** The store keeps the contract of the seam over S3 and PostgreSQL. */
import { Client } from 'pg';
import { openPostgres } from '../../../src/database/open.ts';
import { startPostgres } from '../../../src/database/postgres/server.testing.ts';
import { DATABASE_FOR_TEST, freshLocal } from '../../../src/local/fresh.testing.ts';
import { registryContract } from '../../../src/registry/registry.contract.ts';
import { startS3 } from '../../../src/storage/s3/server.testing.ts';
import { withFleet } from '../fleet/fleet.ts';
import { lazily, open, prefix } from './contract.ts';

/** Drops every table, so that the migrations run anew: quicker than a new database. */
async function empty(url: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query('drop schema public cascade; create schema public');
  await client.end();
}

await withFleet('the contract on S3 and PostgreSQL', () => {
  const store = lazily(startS3);
  const database = lazily(startPostgres);
  registryContract('local (S3, PostgreSQL)', async () =>
    freshLocal({
      storage: await open(await (await store()).bucket('contract', { prefix: prefix() })),
      async openDatabase() {
        const { url } = await database();
        await empty(url);
        return openPostgres({ ...DATABASE_FOR_TEST, url });
      },
    }),
  );
});
