/** crane: pull, push, list, catalog, copy, tag, delete, validate, indexes. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { describe, digestOf, index, runnableImage } from '../support/images.ts';
import { temporaryFolder } from '../support/temp.ts';
import { run, runAny, withTools } from '../support/tools.ts';
import { target } from './target.ts';

withTools(['crane'], 'crane', (crane) => {
  const call = (...args: string[]): Promise<string> => run(crane, [...args, '--insecure']);
  const lines = (text: string): string[] => text.trim().split('\n').sort();

  test('crane pulls, pushes, tags, lists, copies and validates an image by its exact bytes', async () => {
    const { host, http } = await target();
    const app = runnableImage([{ hello: 'hello' }, { 'lib/data': Buffer.alloc(300_000, 7) }]);
    await http.pushImage('crane/app', app, 'one');
    assert.equal((await call('digest', `${host}/crane/app:one`)).trim(), app.manifest.digest);
    assert.equal(await call('manifest', `${host}/crane/app:one`), Buffer.from(app.manifest.bytes).toString());
    assert.equal(await call('config', `${host}/crane/app:one`), Buffer.from(app.blobs[0]?.bytes ?? []).toString());
    await call('validate', '--remote', `${host}/crane/app:one`);

    const folder = temporaryFolder('crane');
    await call('pull', '--format=oci', `${host}/crane/app:one`, join(folder, 'layout'));
    for (const blob of [app.manifest, ...app.blobs]) {
      const path = join(folder, 'layout/blobs', blob.digest.replace(':', '/'));
      assert.equal(digestOf(readFileSync(path)), blob.digest);
    }
    await call('push', join(folder, 'layout'), `${host}/crane/pushed:two`);
    assert.equal((await call('digest', `${host}/crane/pushed:two`)).trim(), app.manifest.digest);

    await call('tag', `${host}/crane/app:one`, 'three');
    assert.deepEqual(lines(await call('ls', `${host}/crane/app`)), ['one', 'three']);
    await call('copy', `${host}/crane/app:three`, `${host}/crane/copied/deep/name:four`);
    for (const blob of app.blobs) {
      const got = await http.hash(`/v2/crane/copied/deep/name/blobs/${blob.digest}`);
      assert.deepEqual(got, { status: 200, size: blob.bytes.length, digest: blob.digest });
    }
    const names = lines(await call('catalog', host));
    for (const name of ['crane/app', 'crane/pushed', 'crane/copied/deep/name']) assert.ok(names.includes(name), name);
    const layer = app.blobs[1];
    assert.ok(layer !== undefined);
    const blob = await call('export', `${host}/crane/app:one`, '-');
    assert.match(blob, /hello/);
  });

  test('crane deletes by digest, after which every reference is unknown', async () => {
    const { host, http } = await target();
    const app = runnableImage([{ gone: 'soon' }]);
    await http.pushImage('crane/delete', app, 'one');
    await http.pushImage('crane/delete', runnableImage([{ stays: 'here' }]), 'kept');
    await call('delete', `${host}/crane/delete@${app.manifest.digest}`);
    const failed = await runAny(crane, ['digest', `${host}/crane/delete:one`, '--insecure']);
    assert.notEqual(failed.code, 0);
    assert.match(failed.stderr, /MANIFEST_UNKNOWN|404/);
    assert.equal((await http.send('HEAD', `/v2/crane/delete/manifests/${app.manifest.digest}`)).status, 404);
    assert.deepEqual(lines(await call('ls', `${host}/crane/delete`)), ['kept']);
  });

  test('crane copies a multi-platform index whole, and one platform of it alone', async () => {
    const { host, http } = await target();
    const platforms = [
      { os: 'linux', architecture: 'amd64' },
      { os: 'linux', architecture: 'arm64' },
    ];
    const images = platforms.map((platform) => runnableImage([{ platform: platform.architecture }], platform));
    for (const each of images) await http.pushImage('crane/multi', each);
    const whole = index(images.map((each, at) => describe(each.manifest, { platform: platforms[at] })));
    assert.equal((await http.pushManifest('crane/multi', whole, 'all')).status, 201);
    await call('copy', `${host}/crane/multi:all`, `${host}/crane/multi-copy:all`);
    assert.equal((await call('digest', `${host}/crane/multi-copy:all`)).trim(), whole.digest);
    for (const each of images) {
      const got = await http.hash(`/v2/crane/multi-copy/manifests/${each.manifest.digest}`);
      assert.equal(got.digest, each.manifest.digest);
    }
    await call('copy', '--platform', 'linux/arm64', `${host}/crane/multi:all`, `${host}/crane/arm:one`);
    assert.equal((await call('digest', `${host}/crane/arm:one`)).trim(), images[1]?.manifest.digest);
  });
});
