/** Against Distribution itself, open, with passwords, and with tokens of a service on another port. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { hash } from 'bcryptjs';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { freePort } from '../../test/support/port.ts';
import { cleanEnvironment, statusOf } from '../../test/support/server.ts';
import { temporaryFolder } from '../../test/support/temp.ts';
import { withTools } from '../../test/support/tools.ts';
import { copy } from '../registry/copy.ts';
import { memoryRegistry } from '../registry/memory.ts';
import type { Registry } from '../registry/registry.ts';
import {
  blob,
  body,
  callAs,
  image,
  index,
  pullBlob,
  pushBlob,
  pushImage,
  pushManifest,
  refused,
  repo,
  tag,
} from '../registry/samples.testing.ts';
import type { UpstreamSettings } from './settings.ts';
import { lying, reading } from './upstream.testing.ts';

const ann = callAs('ann');
const a = repo('team/app');
const b = repo('team/other');
const USER = { username: 'ann', password: 'a long: password' };

async function withRegistry(
  program: string,
  auth: object | undefined,
  more: Omit<UpstreamSettings, 'url'>,
  work: (to: Registry, url: string) => Promise<void>,
): Promise<void> {
  const folder = temporaryFolder('distribution');
  const port = await freePort();
  const file = join(folder, 'config.yml');
  const config = {
    version: 0.1,
    log: { level: 'error', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: join(folder, 'data') }, delete: { enabled: true } },
    http: { addr: `127.0.0.1:${port}`, secret: 'x'.repeat(32) },
    ...(auth === undefined ? {} : { auth }),
  };
  writeFileSync(file, JSON.stringify(config));
  const child = spawn(program, ['serve', file], { cwd: folder, env: cleanEnvironment(), stdio: 'ignore' });
  const exited = once(child, 'exit');
  try {
    const url = `http://127.0.0.1:${port}`;
    for (let tries = 0; tries < 3_000 && child.exitCode === null; tries++) {
      const status = await statusOf(`${url}/v2/`);
      if (status === 200 || status === 401) break;
      await sleep(20);
    }
    await using upstream = reading({ url, ...more });
    await work(upstream.registry, url);
  } finally {
    child.kill('SIGKILL');
    await exited;
  }
}

/** Everything that the seam has, as far as Distribution has it. */
async function tour(to: Registry): Promise<void> {
  const large = blob('0123456789'.repeat(100_000));
  await pushBlob(to, ann, a, large);
  assert.deepEqual(await pullBlob(to, ann, a, large.digest), large.bytes);
  assert.deepEqual(await pullBlob(to, ann, a, large.digest, { start: 10, end: 13 }), large.bytes.subarray(10, 13));
  assert.deepEqual(
    await pullBlob(to, ann, a, large.digest, { start: 999_998, end: 2_000_000 }),
    large.bytes.subarray(-2),
  );
  await refused(to.getBlob(ann, a, large.digest, { start: 1_000_000, end: 1_000_001 }), 'RANGE_INVALID');
  await refused(to.getBlob(ann, a, blob('no').digest), 'BLOB_UNKNOWN');
  await refused(to.resolveBlob(ann, a, blob('no').digest), 'BLOB_UNKNOWN');
  await refused(to.pushBlob(ann, a, { digest: blob('no').digest, size: 5 }, body('wrong')), 'DIGEST_INVALID');
  assert.equal((await to.mountBlob(ann, b, large.digest, a))?.size, 1_000_000);
  assert.equal(await to.mountBlob(ann, b, blob('none').digest, a), undefined);
  const one = await pushImage(to, ann, a, 'one', 'v1', 'v2');
  const two = await pushImage(to, ann, a, 'two');
  const both = index([one, two]);
  await pushManifest(to, ann, a, both, 'all');
  const got = await to.getManifest(ann, a, { tag: tag('all') });
  assert.deepEqual(Buffer.from(got.bytes), both.bytes);
  assert.deepEqual(got.descriptor, await to.resolveManifest(ann, a, { tag: tag('all') }));
  assert.equal((await to.resolveManifest(ann, a, { digest: one.digest })).size, one.bytes.length);
  await refused(to.resolveManifest(ann, a, { tag: tag('none') }), 'MANIFEST_UNKNOWN');
  await refused(to.getManifest(ann, a, { tag: tag('none') }), 'MANIFEST_UNKNOWN');
  await refused(pushManifest(to, ann, a, image(blob('missing'), []), 'bad'), 'MANIFEST_BLOB_UNKNOWN');
  const first = await to.listTags(ann, a, { limit: 2 });
  assert.deepEqual(first, { items: ['all', 'v1'], next: 'v1' });
  assert.deepEqual((await to.listTags(ann, a, { limit: 2, after: 'v1' })).items, ['v2']);
  await refused(to.listTags(ann, repo('never/seen'), { limit: 2 }), 'NAME_UNKNOWN');
  assert.deepEqual(await to.listReferrers(ann, a, one.digest, undefined, { limit: 9 }), { items: [], filtered: false });
  const signature = image(blob('{"seed":"one"}'), [], { artifactType: 'type/sig' });
  await pushManifest(to, ann, a, signature);
  const child = {
    mediaType: signature.mediaType,
    digest: signature.digest,
    size: signature.bytes.length,
    artifactType: 'type/sig',
  };
  await pushManifest(to, ann, a, index([child]), one.digest.replace(':', '-'));
  const { items } = await to.listReferrers(ann, a, one.digest, 'type/sig', { limit: 9 });
  assert.deepEqual(items, [child]);
  const target = memoryRegistry();
  const options = { referrers: true, concurrency: 2 };
  await copy(
    ann,
    to,
    target,
    { repository: a, reference: { tag: tag('all') } },
    { repository: a, tags: [tag('all')] },
    options,
  );
  assert.deepEqual(Buffer.from((await target.getManifest(ann, a, { digest: two.digest })).bytes), two.bytes);
  await to.deleteManifest(ann, a, two.digest);
  await refused(to.resolveManifest(ann, a, { digest: two.digest }), 'MANIFEST_UNKNOWN');
}

withTools(['registry'], 'an upstream that is Distribution', (program) => {
  test('Distribution, open to all', () =>
    withRegistry(program, undefined, {}, async (to) => {
      await tour(to);
      assert.deepEqual((await to.listRepositories(ann, { limit: 1 })).items, [a]);
    }));

  test('Distribution with passwords', async () => {
    const file = join(temporaryFolder('htpasswd'), 'users');
    writeFileSync(file, `${USER.username}:${await hash(USER.password, 4)}\n`);
    const auth = { htpasswd: { realm: 'test', path: file } };
    await withRegistry(program, auth, { credentials: USER }, async (to, url) => {
      await tour(to);
      await using wrong = reading({ url, credentials: { ...USER, password: 'wrong' } });
      await refused(wrong.registry.getManifest(ann, a, { tag: tag('v1') }), 'DENIED');
      await using nobody = reading({ url });
      await refused(nobody.registry.getManifest(ann, a, { tag: tag('v1') }), 'DENIED');
    });
  });

  test('Distribution with tokens, each for what it was asked for', async () => {
    const { privateKey, publicKey } = await generateKeyPair('ES256');
    const jwks = join(temporaryFolder('jwks'), 'keys.json');
    const key = { ...(await exportJWK(publicKey)), kid: 'k1', alg: 'ES256', use: 'sig' };
    writeFileSync(jwks, JSON.stringify({ keys: [key] }));
    const basic = `Basic ${Buffer.from(`${USER.username}:${USER.password}`).toString('base64')}`;
    await using tokens = await lying(async (request, response) => {
      if (request.headers.authorization !== basic) {
        response.writeHead(401).end();
        return;
      }
      const asked = new URL(request.url!, 'http://x').searchParams;
      const access = asked.getAll('scope').map((scope) => {
        const [type = '', name = '', actions = ''] = scope.split(':');
        return { type, name, actions: actions.split(',') };
      });
      const token = await new SignJWT({ access })
        .setProtectedHeader({ alg: 'ES256', kid: 'k1', typ: 'JWT' })
        .setIssuer('test issuer')
        .setAudience('test registry')
        .setSubject('ann')
        .setIssuedAt()
        .setNotBefore('-10s')
        .setExpirationTime('5m')
        .sign(privateKey);
      response.end(JSON.stringify({ token, expires_in: 300 }));
    });
    const token = { realm: `${tokens.origin}/token`, service: 'test registry', issuer: 'test issuer', jwks };
    await withRegistry(program, { token }, { credentials: USER, realmHosts: [tokens.host] }, async (to, url) => {
      await tour(to);
      assert.ok(tokens.asked.length < 12, `${tokens.asked.length} tokens`);
      await using foreign = reading({ url, credentials: USER });
      await refused(foreign.registry.getManifest(ann, a, { tag: tag('v1') }), 'DENIED');
    });
  });
});
