/** The store keeps the contract of the seam over Azure and SQLite. */
import { freshLocal } from '../../../src/local/fresh.testing.ts';
import { registryContract } from '../../../src/registry/registry.contract.ts';
import { startAzure, withAzure } from '../../../src/storage/azure/server.testing.ts';
import { lazily, open, prefix } from './contract.ts';

withAzure('the contract on Azure', () => {
  const store = lazily(async () => {
    const server = await startAzure();
    return { settings: await server.container('contract'), stop: server.stop };
  });
  registryContract('local (Azure, SQLite)', async () =>
    freshLocal({ storage: await open({ ...(await store()).settings, prefix: prefix() }) }),
  );
});
