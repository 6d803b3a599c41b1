/** oras: artifacts pushed and pulled as files, attached and discovered, copied with their graph, blobs, deletes. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { digestOf } from '../support/images.ts';
import { temporaryFolder } from '../support/temp.ts';
import { run, withTools } from '../support/tools.ts';
import { target } from './target.ts';

interface Discovered {
  readonly referrers?: readonly { readonly digest: string; readonly artifactType: string }[];
  readonly manifests?: readonly { readonly digest: string; readonly artifactType: string }[];
}

withTools(['oras'], 'oras', (oras) => {
  const inFolder =
    (cwd: string) =>
    (...args: string[]): Promise<string> =>
      run(oras, args, { cwd });

  test('oras pushes files as an artifact and pulls the same bytes', async () => {
    const { host, http } = await target();
    const folder = temporaryFolder('oras');
    const call = inFolder(folder);
    const notes = randomBytes(50_000);
    writeFileSync(join(folder, 'notes.bin'), notes);
    writeFileSync(join(folder, 'read.me'), 'read me');
    await call(
      'push',
      '--plain-http',
      `${host}/oras/files:v1`,
      '--artifact-type',
      'application/vnd.example.notes',
      '--annotation',
      'a=b',
      'notes.bin:application/octet-stream',
      'read.me:text/plain',
    );
    assert.equal((await http.hash(`/v2/oras/files/blobs/${digestOf(notes)}`)).digest, digestOf(notes));
    mkdirSync(join(folder, 'out'));
    await call('pull', '--plain-http', `${host}/oras/files:v1`, '-o', 'out');
    assert.deepEqual(readFileSync(join(folder, 'out/notes.bin')), notes);
    assert.equal(readFileSync(join(folder, 'out/read.me'), 'utf8'), 'read me');
    await call('tag', '--plain-http', `${host}/oras/files:v1`, 'v2', 'v3');
    assert.deepEqual((await call('repo', 'tags', '--plain-http', `${host}/oras/files`)).trim().split('\n').sort(), [
      'v1',
      'v2',
      'v3',
    ]);
    assert.match(await call('repo', 'ls', '--plain-http', host), /^oras\/files$/m);
  });

  test('oras attaches, discovers by artifact type, copies with what is attached, and deletes', async () => {
    const { host, http } = await target();
    const folder = temporaryFolder('oras');
    const call = inFolder(folder);
    writeFileSync(join(folder, 'app'), 'the program');
    writeFileSync(join(folder, 'sbom.json'), '{"packages":[]}');
    writeFileSync(join(folder, 'scan.json'), '{"found":[]}');
    await call('push', '--plain-http', `${host}/oras/app:v1`, 'app');
    const subject = (await call('resolve', '--plain-http', `${host}/oras/app:v1`)).trim();
    await call(
      'attach',
      '--plain-http',
      '--artifact-type',
      'application/vnd.example.sbom',
      `${host}/oras/app:v1`,
      'sbom.json',
    );
    await call(
      'attach',
      '--plain-http',
      '--artifact-type',
      'application/vnd.example.scan',
      `${host}/oras/app:v1`,
      'scan.json',
    );
    const discover = async (name: string, ...more: string[]) => {
      const found = JSON.parse(
        await call('discover', '--plain-http', '--format', 'json', ...more, `${host}/${name}@${subject}`),
      ) as Discovered;
      return found.referrers ?? found.manifests ?? [];
    };
    const types = (await discover('oras/app')).map((each) => each.artifactType).sort();
    assert.deepEqual(types, ['application/vnd.example.sbom', 'application/vnd.example.scan']);
    const [sbom, ...others] = await discover('oras/app', '--artifact-type', 'application/vnd.example.sbom');
    assert.equal(others.length, 0);
    assert.ok(sbom !== undefined);
    const listed = await http.send('GET', `/v2/oras/app/referrers/${subject}`);
    assert.equal(listed.status, 200);
    assert.equal((JSON.parse(listed.body.toString()) as { manifests: unknown[] }).manifests.length, 2);

    await call('cp', '-r', '--from-plain-http', '--to-plain-http', `${host}/oras/app:v1`, `${host}/oras/copy:v1`);
    assert.equal((await discover('oras/copy')).length, 2);
    await call('manifest', 'delete', '--plain-http', '--force', `${host}/oras/app@${sbom.digest}`);
    assert.deepEqual(
      (await discover('oras/app')).map((each) => each.artifactType),
      ['application/vnd.example.scan'],
    );
    assert.equal((await discover('oras/copy')).length, 2, 'a delete in one repository changes nothing in another');
  });

  test('oras pushes, fetches and deletes single blobs', async () => {
    const { host, http } = await target();
    const folder = temporaryFolder('oras');
    const call = inFolder(folder);
    const bytes = randomBytes(100_000);
    writeFileSync(join(folder, 'blob'), bytes);
    const digest = digestOf(bytes);
    await call('blob', 'push', '--plain-http', `${host}/oras/blobs`, 'blob');
    await call('blob', 'fetch', '--plain-http', '--output', 'fetched', `${host}/oras/blobs@${digest}`);
    assert.equal(digestOf(readFileSync(join(folder, 'fetched'))), digest);
    await call('blob', 'delete', '--plain-http', '--force', `${host}/oras/blobs@${digest}`);
    assert.equal((await http.send('HEAD', `/v2/oras/blobs/blobs/${digest}`)).status, 404);
  });
});
