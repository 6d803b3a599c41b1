/** The store keeps the contract of the seam over Google Cloud Storage and SQLite. */
import { freshLocal } from '../../../src/local/fresh.testing.ts';
import { registryContract } from '../../../src/registry/registry.contract.ts';
import { startGcs, withGcs } from '../../../src/storage/gcs/server.testing.ts';
import { lazily, open, prefix } from './contract.ts';

withGcs('the contract on Google Cloud Storage', () => {
  const store = lazily(async () => {
    const server = await startGcs();
    return { settings: await server.bucket('contract'), stop: server.stop };
  });
  registryContract('local (Google Cloud Storage, SQLite)', async () =>
    freshLocal({ storage: await open({ ...(await store()).settings, prefix: prefix() }) }),
  );
});
