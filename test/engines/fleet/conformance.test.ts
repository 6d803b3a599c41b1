/** Both conformance programs against three instances on PostgreSQL and S3, each request at a random one. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { judgeDevelopment, judgeGinkgo } from '../../conformance/suites.ts';
import { withTools } from '../../support/tools.ts';
import { type Fleet, startFleet, stopEngines, withFleet } from './fleet.ts';

/** Blobs from the object store itself, then through the instances. */
const REDIRECTS = [true, false];

await withFleet('conformance of a fleet', () =>
  withTools(['conformance', 'conformance-ginkgo'], 'conformance of a fleet', (rewrite, ginkgo) => {
    for (const enabled of REDIRECTS) {
      describe(`three instances on PostgreSQL and S3, redirects ${enabled ? 'on' : 'off'}`, () => {
        let fleet: Fleet;
        before(async () => {
          fleet = await startFleet({
            config: { manifests: { sparse: 'all' }, storage: { redirect: { enabled } } },
          });
        });
        after(async () => {
          await fleet.stop();
          if (enabled === REDIRECTS.at(-1)) await stopEngines();
        });

        test('the rewrite, development version, every API and option on', async (t) => {
          t.diagnostic(await judgeDevelopment(rewrite, fleet.balancer));
          assert.ok(
            fleet.balancer.served.every((requests) => requests > 100),
            `${fleet.balancer.served}`,
          );
          assert.equal(fleet.balancer.broken(), 0);
        });

        test('the suite of 1.1, every workflow on', async (t) => {
          t.diagnostic(await judgeGinkgo(ginkgo, fleet.balancer));
          assert.equal(fleet.balancer.broken(), 0);
        });
      });
    }
  }),
);
