/** S3: the contract over a real server. */
import { after, before } from 'node:test';
import { openStorage } from '../open.ts';
import { storageContract } from '../storage.contract.ts';
import { type S3Server, startS3, withS3 } from './server.testing.ts';

withS3('S3 storage: the contract', () => {
  let server: S3Server;
  before(async () => {
    server = await startS3();
  });
  after(() => server.stop());

  storageContract('S3', async () => ({
    storage: await openStorage(await server.bucket('contract')),
    remove: async () => {},
  }));
  storageContract('S3, below a prefix, fewest checksums', async () => ({
    storage: await openStorage(await server.bucket('prefixed', { prefix: 'a/b c/', checksums: 'whenRequired' })),
    remove: async () => {},
  }));
});
