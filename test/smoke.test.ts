/** The real program starts, takes an image, gives it back, remembers it over a restart, and stops when it is told to. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { client } from './support/client.ts';
import { describe, index, randomPiece, runnableImage } from './support/images.ts';
import { startLongshore } from './support/server.ts';

test('an image is pushed, pulled, listed and deleted, and the program starts and stops cleanly', async () => {
  const first = await startLongshore();
  const http = client(first.url);
  const app = runnableImage([{ hello: 'hello' }]);
  await http.pushImage('smoke/app', app, 'v1');
  const large = randomPiece(3 * 1024 * 1024);
  assert.equal((await http.pushChunked('smoke/app', large, 1024 * 1024)).status, 201);
  const whole = index([describe(app.manifest, { platform: { os: 'linux', architecture: 'amd64' } })]);
  assert.equal((await http.pushManifest('smoke/app', whole, 'all')).status, 201);
  http.close();
  await first.stop();

  const second = await startLongshore({ data: first.data });
  const again = client(second.url);
  assert.equal((await again.hash('/v2/smoke/app/manifests/v1')).digest, app.manifest.digest);
  assert.equal((await again.hash('/v2/smoke/app/manifests/all')).digest, whole.digest);
  for (const blob of [...app.blobs, large]) {
    const got = await again.hash(`/v2/smoke/app/blobs/${blob.digest}`);
    assert.deepEqual(got, { status: 200, size: blob.bytes.length, digest: blob.digest });
  }
  const tags = await again.send('GET', '/v2/smoke/app/tags/list');
  assert.deepEqual(JSON.parse(tags.body.toString()), { name: 'smoke/app', tags: ['all', 'v1'] });
  assert.equal((await again.send('DELETE', '/v2/smoke/app/manifests/all')).status, 202);
  assert.equal((await again.send('HEAD', '/v2/smoke/app/manifests/all')).status, 404);
  again.close();
  await second.stop();
});
