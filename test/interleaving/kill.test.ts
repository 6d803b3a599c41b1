/** kill -9 of a process that collects, at each of its failpoints, on real files: the next one goes on, and nothing is lost or left. */
import assert from 'node:assert/strict';
import { cpSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { FAILPOINTS } from '../../src/kit/failpoint.ts';
import { noMetrics } from '../../src/kit/log.ts';
import { freshLocal } from '../../src/local/fresh.testing.ts';
import { spill } from '../../src/maintenance/spill.ts';
import { blobKey } from '../../src/oci/blob-key.ts';
import type { RepositoryName, Tag } from '../../src/oci/names.ts';
import { callAs } from '../../src/registry/samples.testing.ts';
import { advanceClock, disagreements } from '../chaos/disk.ts';
import { temporaryFolder } from '../support/temp.ts';
import { runAny } from '../support/tools.ts';
import { collectAll } from './kill-support.ts';
import { IMAGES, LARGE, type Manifest, SMALL } from './universe.ts';

const A = 'a' as RepositoryName;
const CALL = callAs('ann');
const [kept, deleted] = IMAGES as [Manifest, Manifest];
const loose = SMALL[2]!;
/** More than grace and undelete window of these stores. */
const LONG = 3_000;

/** A folder with an image that stays, one that was deleted, and a blob that nobody names, all of them long ago. */
const prepared = await (async () => {
  const folder = temporaryFolder('gc-kill');
  const { store, database, storage, close } = await freshLocal({ folder, keep: true });
  for (const { digest, bytes } of [...kept.blobs, ...deleted.blobs, loose, ...LARGE])
    await store.pushBlob(CALL, A, { digest }, Readable.from([bytes], { objectMode: false }));
  for (const { bytes, mediaType, name } of [kept, deleted])
    await store.pushManifest(CALL, A, bytes, mediaType, { tags: [name as Tag] });
  await spill({ database, storage, metrics: noMetrics }).run(100, CALL.signal);
  await store.deleteManifest(CALL, A, deleted.digest);
  await close();
  advanceClock(folder, LONG);
  return folder;
})();

for (const failpoint of FAILPOINTS.filter((name) => name.startsWith('gc.'))) {
  test(`killed at ${failpoint}, a collector is followed by one that ends its work`, async () => {
    const folder = temporaryFolder('gc-kill');
    cpSync(prepared, folder, { recursive: true });
    const child = join(import.meta.dirname, 'kill-child.ts');
    const ran = await runAny(process.execPath, [child, folder, failpoint]);
    assert.equal(ran.signal, 'SIGKILL', ran.stderr);
    assert.deepEqual(disagreements(folder), []);
    const local = await freshLocal({ folder, keep: true });
    await collectAll(local);
    for (const { digest, bytes } of kept.blobs) {
      const content = await local.store.getBlob(CALL, A, digest);
      assert.ok(bytes.equals(content.bytes ?? Buffer.alloc(0)));
    }
    assert.equal((await local.store.getManifest(CALL, A, { tag: kept.name as Tag })).descriptor.digest, kept.digest);
    await local.close();
    assert.deepEqual(disagreements(folder), []);
    const files = readdirSync(join(folder, 'storage/blobs'), { recursive: true, withFileTypes: true });
    const names = files.filter((entry) => entry.isFile()).map((entry) => entry.name);
    const named = [kept, ...kept.blobs].map(({ digest }) => blobKey(digest, 0).split('/')[2]);
    assert.deepEqual(names.sort(), named.sort());
  });
}
