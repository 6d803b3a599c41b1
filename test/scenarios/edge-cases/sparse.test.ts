/** Edge case 49 where the configuration allows manifests whose parts are not here. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  bytesOf,
  descriptor,
  digestOf,
  EMPTY_CONFIG,
  expectError,
  expectStatus,
  get,
  imageIndex,
  imageManifest,
  OCI_INDEX,
  OCI_MANIFEST,
  pushBlob,
  putManifest,
} from '../support/oci.ts';
import { open } from '../support/open.ts';

const indexes = await open({ config: { manifests: { sparse: 'indexes' } } });
const all = await open({ config: { manifests: { sparse: 'all' } } });

describe('sparse manifests', { concurrency: true }, () => {
  const child = descriptor('{"not":"here"}', OCI_MANIFEST);
  const sparse = imageIndex([child]);

  for (const [setting, server] of [
    ['indexes', indexes],
    ['all', all],
  ] as const) {
    it(`E49 manifests.sparse: ${setting} takes an index whose children are not here`, async () => {
      expectStatus(await putManifest(server, 'sparse', 'index', sparse, OCI_INDEX), 201);
      assert.equal((await get(server, '/v2/sparse/manifests/index')).text(), sparse);
      expectError(await get(server, `/v2/sparse/manifests/${child.digest}`), 404, 'MANIFEST_UNKNOWN');
    });
  }

  it('E49 manifests.sparse: indexes still wants an image to be whole', async () => {
    await pushBlob(indexes, 'image', EMPTY_CONFIG);
    expectError(
      await putManifest(indexes, 'image', 'v1', imageManifest(EMPTY_CONFIG, [bytesOf(9)])),
      404,
      'MANIFEST_BLOB_UNKNOWN',
    );
  });

  it('E49 manifests.sparse: all takes an image whose layers are not here, which stay 404 until pushed', async () => {
    const layer = bytesOf(90);
    await pushBlob(all, 'image', EMPTY_CONFIG);
    expectStatus(await putManifest(all, 'image', 'v1', imageManifest(EMPTY_CONFIG, [layer])), 201);
    expectError(await get(all, `/v2/image/blobs/${digestOf(layer)}`), 404, 'BLOB_UNKNOWN');
    await pushBlob(all, 'image', layer);
    expectStatus(await get(all, `/v2/image/blobs/${digestOf(layer)}`), 200);
  });
});
