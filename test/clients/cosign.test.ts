/** cosign: signatures and attestations by a local key, offline, stored as referrers and verified. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { runnableImage } from '../support/images.ts';
import { temporaryFolder } from '../support/temp.ts';
import { run, runAny, withTools } from '../support/tools.ts';
import { target } from './target.ts';

withTools(['cosign'], 'cosign', (cosign) => {
  const offline = ['--tlog-upload=false', '--use-signing-config=false', '--allow-http-registry', '-y'];
  const checks = ['--insecure-ignore-tlog=true', '--allow-http-registry'];

  test('cosign signs and attests an image; its key verifies, another does not', async () => {
    const { host, http } = await target();
    const folder = temporaryFolder('cosign');
    const options = { cwd: folder, env: { COSIGN_PASSWORD: 'a password', HOME: folder } };
    const call = (...args: string[]): Promise<string> => run(cosign, args, options);
    const app = runnableImage([{ signed: 'yes' }]);
    await http.pushImage('cosign/app', app, 'v1');
    const name = `${host}/cosign/app@${app.manifest.digest}`;
    await call('generate-key-pair');
    await call('generate-key-pair', '--output-key-prefix', 'other');
    const unsigned = await runAny(cosign, ['verify', '--key', 'cosign.pub', ...checks, name], options);
    assert.notEqual(unsigned.code, 0, 'nothing is signed yet');
    await call('sign', '--key', 'cosign.key', ...offline, name);
    const said = await call('verify', '--key', 'cosign.pub', ...checks, name);
    const verified = JSON.parse(/^\[\{.*$/m.exec(said)?.[0] ?? '[]') as {
      critical: { image: Record<string, string> };
    }[];
    assert.equal(verified[0]?.critical.image['docker-manifest-digest'], app.manifest.digest);
    const wrong = await runAny(cosign, ['verify', '--key', 'other.pub', ...checks, name], options);
    assert.notEqual(wrong.code, 0, 'another key verifies nothing');

    writeFileSync(join(folder, 'predicate.json'), '{"builtBy":"a test"}');
    await call('attest', '--key', 'cosign.key', '--type', 'custom', '--predicate', 'predicate.json', ...offline, name);
    await call('verify-attestation', '--key', 'cosign.pub', '--type', 'custom', ...checks, name);
    const answer = await http.send('GET', `/v2/cosign/app/referrers/${app.manifest.digest}`);
    const { manifests } = JSON.parse(answer.body.toString()) as { manifests: unknown[] };
    assert.equal(manifests.length, 2, 'the signature and the attestation are referrers');
    assert.match(await call('tree', '--allow-http-registry', name), /sigstore\.dev\/cosign\/sign/);
  });
});
