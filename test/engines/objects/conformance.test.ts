/** Both conformance programs against one instance on SQLite and Google Cloud Storage, and on SQLite and Azure. */
import { test } from 'node:test';
import { startAzure, withAzure } from '../../../src/storage/azure/server.testing.ts';
import { startGcs, withGcs } from '../../../src/storage/gcs/server.testing.ts';
import type { AzureSettings, GcsSettings } from '../../../src/storage/settings.ts';
import { judgeDevelopment, judgeGinkgo } from '../../conformance/suites.ts';
import { startLongshore } from '../../support/server.ts';
import { withTools } from '../../support/tools.ts';

/** A store of its own, and how it ends. */
interface Store {
  readonly settings: GcsSettings | AzureSettings;
  stop(): Promise<void>;
}

function judgeOn(what: string, open: () => Promise<Store>): void {
  withTools(['conformance', 'conformance-ginkgo'], `conformance on ${what}`, (rewrite, ginkgo) => {
    test(`SQLite and ${what}: both conformance programs, everything on`, async (t) => {
      const store = await open();
      const { driver, ...section } = store.settings;
      const config = { storage: { driver, [driver]: section }, manifests: { sparse: 'all' }, log: { access: false } };
      try {
        const server = await startLongshore({ config });
        try {
          t.diagnostic(await judgeDevelopment(rewrite, server));
          t.diagnostic(await judgeGinkgo(ginkgo, server));
        } finally {
          await server.stop();
        }
      } finally {
        await store.stop();
      }
    });
  });
}

withGcs('conformance on Google Cloud Storage', () =>
  judgeOn('Google Cloud Storage', async () => {
    const server = await startGcs();
    return { settings: await server.bucket('conformance'), stop: server.stop };
  }),
);

withAzure('conformance on Azure', () =>
  judgeOn('Azure', async () => {
    const server = await startAzure();
    return { settings: await server.container('conformance'), stop: server.stop };
  }),
);
