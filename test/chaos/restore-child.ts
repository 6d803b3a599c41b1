/** A process of its own that brings a deleted manifest back and dies at a failpoint: FOLDER REPOSITORY DIGEST FAILPOINT. */
import { armFailpoints, FAILPOINTS, killAt } from '../../src/kit/failpoint.ts';
import { freshLocal } from '../../src/local/fresh.testing.ts';
import { parseDigest } from '../../src/oci/digest.ts';
import { parseRepositoryName } from '../../src/oci/repository-name.ts';
import { callAs } from '../../src/registry/samples.testing.ts';

const [folder = '', repository = '', digest = '', name = ''] = process.argv.slice(2);
const failpoint = FAILPOINTS.find((each) => each === name);
if (failpoint === undefined) throw new Error(`no failpoint ${name}`);
const local = await freshLocal({ folder, keep: true });
armFailpoints(killAt(failpoint, 1));
await local.store.restore(callAs('ann'), parseRepositoryName(repository), { digest: parseDigest(digest) });
throw new Error(`${name} was not reached`);
