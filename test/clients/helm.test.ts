/** helm: a chart packaged, pushed as an OCI artifact, shown, pulled and rendered from the registry. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { digestOf } from '../support/images.ts';
import { temporaryFolder } from '../support/temp.ts';
import { run, runAny, withTools } from '../support/tools.ts';
import { target } from './target.ts';

withTools(['helm'], 'helm', (helm) => {
  test('helm pushes a chart, shows, pulls and renders it', async () => {
    const { host, http } = await target();
    const folder = temporaryFolder('helm');
    const env = {
      HELM_CACHE_HOME: join(folder, 'cache'),
      HELM_CONFIG_HOME: join(folder, 'config'),
      HELM_DATA_HOME: join(folder, 'data'),
    };
    const call = (...args: string[]): Promise<string> => run(helm, args, { cwd: folder, env });
    await call('create', 'shop');
    await call('package', 'shop', '--version', '1.2.3+build.4');
    const archive = readFileSync(join(folder, 'shop-1.2.3+build.4.tgz'));
    await call('push', '--plain-http', 'shop-1.2.3+build.4.tgz', `oci://${host}/charts`);
    // A plus cannot stand in a tag; helm writes it as an underscore.
    const tags = await http.send('GET', '/v2/charts/shop/tags/list');
    assert.deepEqual(JSON.parse(tags.body.toString()), { name: 'charts/shop', tags: ['1.2.3_build.4'] });
    const got = await http.hash(`/v2/charts/shop/blobs/${digestOf(archive)}`);
    assert.deepEqual(got, { status: 200, size: archive.length, digest: digestOf(archive) });
    assert.match(
      await call('show', 'chart', '--plain-http', `oci://${host}/charts/shop`, '--version', '1.2.3+build.4'),
      /^name: shop$/m,
    );
    mkdirSync(join(folder, 'pulled'));
    await call('pull', '--plain-http', `oci://${host}/charts/shop`, '--version', '1.2.3+build.4', '-d', 'pulled');
    assert.equal(digestOf(readFileSync(join(folder, 'pulled/shop-1.2.3+build.4.tgz'))), digestOf(archive));
    assert.match(
      await call('template', 'my', '--plain-http', `oci://${host}/charts/shop`, '--version', '^1.0.0-0'),
      /kind: Deployment/,
    );
    const missing = await runAny(helm, ['pull', '--plain-http', `oci://${host}/charts/none`, '--version', '1.0.0'], {
      cwd: folder,
      env,
    });
    assert.notEqual(missing.code, 0);
  });
});
