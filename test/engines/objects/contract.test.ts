/**
 * The store keeps the contract of the seam over each object store: S3 with PostgreSQL, Google Cloud Storage and Azure
 * with SQLite. Every test has a prefix, and on PostgreSQL a schema, of its own.
 */
import { after, describe } from 'node:test';
import { Client } from 'pg';
import { openPostgres } from '../../../src/database/open.ts';
import { postgresIsThere, startPostgres } from '../../../src/database/postgres/server.testing.ts';
import { DATABASE_FOR_TEST, freshLocal } from '../../../src/local/fresh.testing.ts';
import { registryContract } from '../../../src/registry/registry.contract.ts';
import { startAzure, withAzure } from '../../../src/storage/azure/server.testing.ts';
import { startGcs, withGcs } from '../../../src/storage/gcs/server.testing.ts';
import { openStorage } from '../../../src/storage/open.ts';
import { startS3, withS3 } from '../../../src/storage/s3/server.testing.ts';
import type { StorageSettings } from '../../../src/storage/settings.ts';

/** Something that is started when the first test asks for it, and ends after the last. */
function lazily<T extends { stop(): Promise<void> }>(start: () => Promise<T>): () => Promise<T> {
  let started: Promise<T> | undefined;
  after(async () => (await started)?.stop());
  return () => {
    started ??= start();
    return started;
  };
}

let prefixes = 0;
const prefix = (): string => `t${++prefixes}/`;
const open = async (settings: StorageSettings) => openStorage(settings, {});

/** Drops every table, so that the migrations run anew: quicker than a new database. */
async function empty(url: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query('drop schema public cascade; create schema public');
  await client.end();
}

if (await postgresIsThere())
  withS3('the contract on S3 and PostgreSQL', () => {
    describe('S3 and PostgreSQL', () => {
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
  });

withGcs('the contract on Google Cloud Storage', () => {
  describe('Google Cloud Storage', () => {
    const store = lazily(async () => {
      const server = await startGcs();
      return { settings: await server.bucket('contract'), stop: server.stop };
    });
    registryContract('local (Google Cloud Storage, SQLite)', async () =>
      freshLocal({ storage: await open({ ...(await store()).settings, prefix: prefix() }) }),
    );
  });
});

withAzure('the contract on Azure', () => {
  describe('Azure', () => {
    const store = lazily(async () => {
      const server = await startAzure();
      return { settings: await server.container('contract'), stop: server.stop };
    });
    registryContract('local (Azure, SQLite)', async () =>
      freshLocal({ storage: await open({ ...(await store()).settings, prefix: prefix() }) }),
    );
  });
});
