/** buildah and podman: an image built from scratch, pushed, pulled back into an empty store, a manifest list. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { TYPES } from '../support/images.ts';
import { temporaryFolder } from '../support/temp.ts';
import { run, withTools } from '../support/tools.ts';
import { target } from './target.ts';

/** Runs a program of the family with image stores of its own, none of the machine's. */
function family(program: string, folder: string) {
  const storage = ['--storage-driver', 'vfs', '--root', join(folder, 'root'), '--runroot', join(folder, 'run')];
  const env = { CONTAINERS_CONF: '/dev/null', TMPDIR: folder, HOME: folder };
  return (...args: string[]): Promise<string> => run(program, [...storage, ...args], { cwd: folder, env });
}

const VERIFY = '--tls-verify=false';

withTools(['buildah', 'podman'], 'buildah and podman', (buildah, podman) => {
  test('buildah builds and pushes; podman pulls into an empty store, tags and pushes again', async () => {
    const { host, http } = await target();
    const folder = temporaryFolder('buildah');
    const build = family(buildah, folder);
    writeFileSync(join(folder, 'hello'), 'hello from a file\n');
    writeFileSync(join(folder, 'Containerfile'), 'FROM scratch\nCOPY hello /hello\nLABEL made.by=test\n');
    await build('bud', '--isolation', 'chroot', '-t', 'app', '-f', 'Containerfile', '.');
    const digestFile = join(folder, 'digest');
    await build('push', VERIFY, '--digestfile', digestFile, 'app', `docker://${host}/family/app:v1`);
    const pushed = await http.send('GET', '/v2/family/app/manifests/v1', { headers: { accept: TYPES.manifest } });
    assert.equal(pushed.status, 200);
    const manifest = JSON.parse(pushed.body.toString()) as { layers: { digest: string }[]; config: { digest: string } };
    for (const { digest } of [manifest.config, ...manifest.layers]) {
      assert.equal((await http.hash(`/v2/family/app/blobs/${digest}`)).digest, digest);
    }

    const second = temporaryFolder('podman');
    const pod = family(podman, second);
    await pod('pull', VERIFY, `${host}/family/app:v1`);
    assert.equal(
      (await pod('image', 'inspect', '--format', '{{index .Labels "made.by"}}', `${host}/family/app:v1`)).trim(),
      'test',
    );
    const mounted = (await pod('image', 'mount', `${host}/family/app:v1`)).trim();
    assert.equal(await run('cat', [join(mounted, 'hello')]), 'hello from a file\n');
    await pod('image', 'unmount', '--all');
    await pod('tag', `${host}/family/app:v1`, `${host}/family/again:v2`);
    await pod('push', VERIFY, `${host}/family/again:v2`);
    assert.equal((await http.hash('/v2/family/again/manifests/v2')).status, 200);
    await pod('rmi', '--all', '--force');
    await pod('pull', VERIFY, `${host}/family/again:v2`);
  });

  test('buildah pushes a manifest list of two platforms, podman pulls it', async () => {
    const { host, http } = await target();
    const folder = temporaryFolder('buildah');
    const build = family(buildah, folder);
    mkdirSync(join(folder, 'context'));
    writeFileSync(join(folder, 'context/Containerfile'), 'FROM scratch\nCOPY Containerfile /which\n');
    await build('manifest', 'create', 'multi');
    for (const architecture of ['amd64', 'arm64']) {
      await build('bud', '--isolation', 'chroot', '--arch', architecture, '--manifest', 'multi', 'context');
    }
    await build('manifest', 'push', VERIFY, '--all', '--format', 'oci', 'multi', `docker://${host}/family/multi:v1`);
    const got = await http.send('GET', '/v2/family/multi/manifests/v1', { headers: { accept: TYPES.index } });
    assert.equal(got.status, 200);
    assert.equal(got.headers['content-type'], TYPES.index);
    const { manifests } = JSON.parse(got.body.toString()) as {
      manifests: { digest: string; platform: { architecture: string } }[];
    };
    assert.deepEqual(manifests.map((each) => each.platform.architecture).sort(), ['amd64', 'arm64']);
    for (const { digest } of manifests) {
      assert.equal((await http.hash(`/v2/family/multi/manifests/${digest}`)).digest, digest);
    }
    const pod = family(podman, temporaryFolder('podman'));
    await pod('pull', VERIFY, '--arch', 'arm64', `${host}/family/multi:v1`);
    assert.equal(
      (await pod('image', 'inspect', '--format', '{{.Architecture}}', `${host}/family/multi:v1`)).trim(),
      'arm64',
    );
  });
});
