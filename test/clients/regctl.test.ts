/** regctl: image copy, tags listed and deleted one by one, artifacts with subjects, chunked blobs, indexes. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { describe, digestOf, index, runnableImage } from '../support/images.ts';
import { temporaryFolder } from '../support/temp.ts';
import { run, runAny, withTools } from '../support/tools.ts';
import { target } from './target.ts';

withTools(['regctl'], 'regctl', (regctl) => {
  const call = async (args: readonly string[], input?: string | Uint8Array): Promise<string> => {
    const { host } = await target();
    const common = ['--host', `reg=${host},tls=disabled,blobMax=1048576,blobChunk=524288`];
    return run(regctl, [...common, ...args], input === undefined ? {} : { input });
  };
  const lines = (text: string): string[] => text.trim().split('\n').sort();

  test('regctl copies images and indexes and sees the same digests', async () => {
    const { host, http } = await target();
    const images = ['amd64', 'arm64'].map((architecture) =>
      runnableImage([{ a: architecture }], { os: 'linux', architecture }),
    );
    for (const each of images) await http.pushImage('regctl/app', each);
    const whole = index(
      images.map((each, at) =>
        describe(each.manifest, { platform: { os: 'linux', architecture: ['amd64', 'arm64'][at] } }),
      ),
    );
    assert.equal((await http.pushManifest('regctl/app', whole, 'v1')).status, 201);
    await call(['image', 'copy', `${host}/regctl/app:v1`, `${host}/regctl/copy:v1`]);
    assert.equal((await call(['image', 'digest', `${host}/regctl/copy:v1`])).trim(), whole.digest);
    assert.equal(
      (await call(['image', 'digest', '--platform', 'linux/arm64', `${host}/regctl/copy:v1`])).trim(),
      images[1]?.manifest.digest,
    );
    const layout = join(temporaryFolder('regctl'), 'layout');
    await call(['image', 'copy', `${host}/regctl/app:v1`, `ocidir://${layout}:v1`]);
    await call(['image', 'copy', `ocidir://${layout}:v1`, `${host}/regctl/back:v1`]);
    assert.equal((await http.hash('/v2/regctl/back/manifests/v1')).digest, whole.digest);
    assert.ok(lines(await call(['repo', 'ls', host])).includes('regctl/back'));
  });

  test('regctl deletes one tag and leaves the other tags of the same manifest', async () => {
    const { host, http } = await target();
    const app = runnableImage([{ tags: 'two' }]);
    await http.pushImage('regctl/tags', app, 'one');
    await http.pushManifest('regctl/tags', app.manifest, 'two');
    assert.deepEqual(lines(await call(['tag', 'ls', `${host}/regctl/tags`])), ['one', 'two']);
    await call(['tag', 'delete', `${host}/regctl/tags:one`]);
    assert.deepEqual(lines(await call(['tag', 'ls', `${host}/regctl/tags`])), ['two']);
    assert.equal((await http.send('HEAD', '/v2/regctl/tags/manifests/one')).status, 404);
    assert.equal((await http.hash('/v2/regctl/tags/manifests/two')).digest, app.manifest.digest);
    await call(['manifest', 'delete', '--force-tag-dereference', `${host}/regctl/tags:two`]);
    assert.equal((await http.send('HEAD', `/v2/regctl/tags/manifests/${app.manifest.digest}`)).status, 404);
  });

  test('regctl puts artifacts on a subject, lists them and gets the bytes back', async () => {
    const { host, http } = await target();
    await http.pushImage('regctl/subject', runnableImage([{ subject: 'this' }]), 'v1');
    const type = 'application/vnd.example.note';
    await call(
      [
        'artifact',
        'put',
        '--artifact-type',
        type,
        '--subject',
        `${host}/regctl/subject:v1`,
        '--file-media-type',
        'text/plain',
      ],
      'a note',
    );
    const found = JSON.parse(
      await call([
        'artifact',
        'list',
        '--filter-artifact-type',
        type,
        '--format',
        '{{jsonPretty .Manifest}}',
        `${host}/regctl/subject:v1`,
      ]),
    ) as { manifests: { artifactType: string }[] };
    assert.deepEqual(
      found.manifests.map((each) => each.artifactType),
      [type],
    );
    assert.equal(
      await call(['artifact', 'get', '--subject', `${host}/regctl/subject:v1`, '--filter-artifact-type', type]),
      'a note',
    );
  });

  test('regctl puts a blob in chunks and gets, heads and deletes it', async () => {
    const { host, http } = await target();
    const bytes = randomBytes(3 * 1024 * 1024 + 17);
    const digest = digestOf(bytes);
    const file = join(temporaryFolder('regctl'), 'blob');
    writeFileSync(file, bytes);
    assert.equal((await call(['blob', 'put', `${host}/regctl/blobs`], bytes)).trim(), digest);
    assert.deepEqual(await http.hash(`/v2/regctl/blobs/blobs/${digest}`), { status: 200, size: bytes.length, digest });
    assert.match(await call(['blob', 'head', `${host}/regctl/blobs`, digest]), /3145745/);
    await call(['blob', 'delete', `${host}/regctl/blobs`, digest]);
    const failed = await runAny(regctl, [
      '--host',
      `reg=${host},tls=disabled`,
      'blob',
      'head',
      `${host}/regctl/blobs`,
      digest,
    ]);
    assert.notEqual(failed.code, 0);
  });
});
