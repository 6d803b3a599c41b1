/** skopeo: copies from and to folders, between repositories, whole indexes, lists tags, deletes, inspects, syncs. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { describe, digestOf, index, runnableImage, TYPES } from '../support/images.ts';
import { temporaryFolder } from '../support/temp.ts';
import { run, runAny, withTools } from '../support/tools.ts';
import { target } from './target.ts';

withTools(['skopeo'], 'skopeo', (skopeo) => {
  const policy = ['--insecure-policy'];
  const copy = (from: string, to: string, ...more: string[]): Promise<string> =>
    run(skopeo, [...policy, 'copy', '--src-tls-verify=false', '--dest-tls-verify=false', ...more, from, to]);

  test('skopeo copies an image out, in again and across repositories with its digests kept', async () => {
    const { host, http } = await target();
    const app = runnableImage([{ one: 'first' }, { two: Buffer.alloc(200_000, 3) }]);
    await http.pushImage('skopeo/app', app, 'v1');
    const folder = temporaryFolder('skopeo');
    await copy(`docker://${host}/skopeo/app:v1`, `oci:${folder}/layout:v1`, '--preserve-digests');
    for (const blob of [app.manifest, ...app.blobs]) {
      assert.equal(digestOf(readFileSync(join(folder, 'layout/blobs', blob.digest.replace(':', '/')))), blob.digest);
    }
    await copy(`oci:${folder}/layout:v1`, `docker://${host}/skopeo/again:v1`, '--preserve-digests');
    await copy(`docker://${host}/skopeo/again:v1`, `docker://${host}/skopeo/third:v1`, '--preserve-digests');
    for (const name of ['skopeo/again', 'skopeo/third']) {
      assert.equal((await http.hash(`/v2/${name}/manifests/v1`)).digest, app.manifest.digest);
      for (const blob of app.blobs) {
        assert.equal((await http.hash(`/v2/${name}/blobs/${blob.digest}`)).digest, blob.digest);
      }
    }
    const seen = JSON.parse(
      await run(skopeo, ['inspect', '--tls-verify=false', `docker://${host}/skopeo/third:v1`]),
    ) as { Digest: string; Layers: string[] };
    assert.equal(seen.Digest, app.manifest.digest);
    assert.deepEqual(
      seen.Layers,
      app.blobs.slice(1).map((blob) => blob.digest),
    );
  });

  test("skopeo pushes Docker's own manifest format", async () => {
    const { host, http } = await target();
    await http.pushImage('skopeo/oci', runnableImage([{ one: 'docker' }]), 'v1');
    await copy(`docker://${host}/skopeo/oci:v1`, `docker://${host}/skopeo/docker:v2`, '--format', 'v2s2');
    const got = await http.send('GET', '/v2/skopeo/docker/manifests/v2', { headers: { accept: TYPES.dockerManifest } });
    assert.equal(got.status, 200);
    assert.equal(got.headers['content-type'], TYPES.dockerManifest);
    assert.equal(got.headers['docker-content-digest'], digestOf(got.body));
  });

  test('skopeo copies every platform of an index', async () => {
    const { host, http } = await target();
    const platforms = ['amd64', 'arm64', 's390x'].map((architecture) => ({ os: 'linux', architecture }));
    const images = platforms.map((platform) => runnableImage([{ is: platform.architecture }], platform));
    for (const each of images) await http.pushImage('skopeo/multi', each);
    const whole = index(images.map((each, at) => describe(each.manifest, { platform: platforms[at] })));
    assert.equal((await http.pushManifest('skopeo/multi', whole, 'all')).status, 201);
    const folder = temporaryFolder('skopeo');
    await copy(`docker://${host}/skopeo/multi:all`, `dir:${folder}`, '--all', '--preserve-digests');
    await copy(`dir:${folder}`, `docker://${host}/skopeo/multi-two:all`, '--all', '--preserve-digests');
    assert.equal((await http.hash('/v2/skopeo/multi-two/manifests/all')).digest, whole.digest);
    for (const each of images) {
      assert.equal(
        (await http.hash(`/v2/skopeo/multi-two/manifests/${each.manifest.digest}`)).digest,
        each.manifest.digest,
      );
    }
  });

  test('skopeo lists tags and deletes', async () => {
    const { host, http } = await target();
    const first = runnableImage([{ n: '1' }]);
    const second = runnableImage([{ n: '2' }]);
    await http.pushImage('skopeo/tags', first, 'a');
    await http.pushImage('skopeo/tags', second, 'b');
    const tags = async (): Promise<string[]> =>
      (
        JSON.parse(await run(skopeo, ['list-tags', '--tls-verify=false', `docker://${host}/skopeo/tags`])) as {
          Tags: string[];
        }
      ).Tags;
    assert.deepEqual(await tags(), ['a', 'b']);
    await run(skopeo, ['delete', '--tls-verify=false', `docker://${host}/skopeo/tags:a`]);
    assert.deepEqual(await tags(), ['b']);
    assert.equal((await http.send('HEAD', `/v2/skopeo/tags/manifests/${first.manifest.digest}`)).status, 404);
    const failed = await runAny(skopeo, ['inspect', '--tls-verify=false', `docker://${host}/skopeo/tags:a`]);
    assert.notEqual(failed.code, 0);
  });

  test('skopeo syncs a repository to a folder and back', async () => {
    const { host, http } = await target();
    const first = runnableImage([{ sync: '1' }]);
    await http.pushImage('skopeo/sync', first, 'x');
    await http.pushImage('skopeo/sync', runnableImage([{ sync: '2' }]), 'y');
    const folder = temporaryFolder('skopeo');
    await run(skopeo, [
      ...policy,
      'sync',
      '--src-tls-verify=false',
      '--src',
      'docker',
      '--dest',
      'dir',
      `${host}/skopeo/sync`,
      folder,
    ]);
    await run(skopeo, [
      ...policy,
      'sync',
      '--dest-tls-verify=false',
      '--src',
      'dir',
      '--dest',
      'docker',
      folder,
      `${host}/synced`,
    ]);
    assert.equal((await http.hash('/v2/synced/sync/manifests/x')).digest, first.manifest.digest);
    assert.equal((await http.hash('/v2/synced/sync/manifests/y')).status, 200);
  });
});
