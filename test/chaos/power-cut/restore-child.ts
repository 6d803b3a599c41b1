/**
 * A process of its own that does what no request reaches, as an owner of the data folder after the server:
 * FOLDER REPOSITORY DIGEST. Brings a deleted manifest back, says so, and closes.
 */
import { freshLocal } from '../../../src/local/fresh.testing.ts';
import { parseDigest } from '../../../src/oci/digest.ts';
import { parseRepositoryName } from '../../../src/oci/repository-name.ts';
import { callAs } from '../../../src/registry/samples.testing.ts';
import { DONE } from './trace.ts';

const [folder = '', repository = '', digest = ''] = process.argv.slice(2);
const local = await freshLocal({ folder, keep: true });
await local.store.restore(callAs('ann'), parseRepositoryName(repository), { digest: parseDigest(digest) });
process.stdout.write(DONE);
await local.close();
