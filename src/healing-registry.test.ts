/** Healing from another registry: the source against servers that are right, lie or refuse; then two whole programs. */
import assert from 'node:assert/strict';
import { globSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { hastenJobs } from '../test/chaos/disk.ts';
import { basic, bytesOf, pushBlob as push } from '../test/scenarios/support/oci.ts';
import { cli, closed, PASSWORDS } from '../test/scenarios/support/open.ts';
import { ask } from '../test/scenarios/support/wire.ts';
import { startLongshore } from '../test/support/server.ts';
import { temporaryFolder } from '../test/support/temp.ts';
import { type HealingRegistry, registryHealingSource } from './healing-registry.ts';
import { systemClock } from './kit/clock.ts';
import { FaultError, RegistryError } from './oci/error.ts';
import { OCI_MANIFEST } from './oci/media-types.ts';
import type { Digest, RepositoryName } from './oci/names.ts';
import { serve } from './protocol/serve.testing.ts';
import { memoryRegistry } from './registry/memory.ts';
import { blob, callAs, pushBlob, pushImage, repo } from './registry/samples.testing.ts';
import { lying } from './upstream/upstream.testing.ts';

const ann = callAs('ann');
const a = repo('team/app');
const b = repo('team/other');
const sample = blob('0123456789'.repeat(20_000));

/** What the source gives; undefined where it has nothing. */
async function heal(
  entry: Partial<HealingRegistry> & { url: string },
  digest: Digest,
  size: number | undefined,
  repositories: readonly RepositoryName[],
  manifest?: string,
): Promise<Buffer | undefined> {
  const source = registryHealingSource(
    { allowPrivateAddresses: true, tokenHosts: [], ...entry },
    { clock: systemClock },
  );
  try {
    assert.equal(source.name, `registry ${new URL(entry.url).host}`);
    const options = { signal: new AbortController().signal, ...(manifest === undefined ? {} : { manifest }) };
    const bytes = await source.open(digest, size, repositories, options);
    if (bytes === undefined) return undefined;
    const chunks: Uint8Array[] = [];
    for await (const chunk of bytes) chunks.push(Buffer.from(chunk));
    return Buffer.concat(chunks);
  } finally {
    await source.close?.();
  }
}

test('blobs and manifests come from the first repository that has them, or from the configured one', async () => {
  const registry = memoryRegistry();
  await using server = await serve({ registry });
  const url = `http://127.0.0.1:${server.port}`;
  await pushBlob(registry, ann, b, sample);
  const image = await pushImage(registry, ann, b, 'one', 'v1');
  const { digest, bytes } = sample;
  assert.deepEqual(await heal({ url }, digest, bytes.length, [a, b]), bytes);
  assert.deepEqual(await heal({ url }, digest, undefined, [b]), bytes);
  assert.deepEqual(await heal({ url, repository: b }, digest, bytes.length, []), bytes);
  assert.deepEqual(await heal({ url, repository: b }, digest, bytes.length, [a]), bytes);
  assert.deepEqual(await heal({ url }, image.digest, image.bytes.length, [a, b], OCI_MANIFEST), image.bytes);
  assert.deepEqual(
    await heal({ url }, digest, bytes.length, [a, b], OCI_MANIFEST),
    bytes,
    'a blob that is called a manifest',
  );
  assert.equal(await heal({ url }, digest, bytes.length, [a]), undefined);
  assert.equal(await heal({ url }, digest, bytes.length, []), undefined);
  assert.equal(await heal({ url, repository: 'No Name' }, digest, bytes.length, [b]), undefined);
  assert.equal(await heal({ url }, image.digest, image.bytes.length, [b]), undefined, 'not as a blob');
  await assert.rejects(heal({ url }, digest, 7, [b]), /bytes where 7 are expected/);
  assert.equal(server.buffers.transfers, 0);
});

test('a lying registry gives nothing', async () => {
  const lies: readonly RequestListener[] = [
    (_request, response) => response.end(Buffer.alloc(sample.bytes.length)),
    (_request, response) => response.end('<html>'),
    (_request, response) =>
      void response.writeHead(200, { 'content-length': '200000' }).write('0123', () => response.destroy()),
    (_request, response) => void response.writeHead(500).end(),
    (_request, response) => void response.writeHead(403).end(),
  ];
  for (const lie of lies) {
    await using server = await lying(lie);
    await assert.rejects(heal({ url: server.origin }, sample.digest, sample.bytes.length, [a]), (error) => {
      return error instanceof RegistryError || error instanceof FaultError;
    });
  }
});

test('one on this machine is not asked unless that is allowed', async () => {
  await using server = await lying((_request, response) => response.end(sample.bytes));
  const entry = { url: server.origin, allowPrivateAddresses: false };
  await assert.rejects(heal(entry, sample.digest, sample.bytes.length, [a]), /not at a public address/);
  assert.equal(server.asked.length, 0);
});

test('two whole programs: what one lost comes back from the other, which asks for a password', async () => {
  const bytes = bytesOf(345_678);
  const healthy = await closed();
  const alice = basic('alice', PASSWORDS.alice);
  const digest = await push(healthy, 'team/app', bytes, alice);
  const config = { access: { anonymous: 'push' }, log: { access: false } };
  const damaged = await startLongshore({ config });
  const { data } = damaged;
  await push(damaged, 'team/app', bytes);
  await damaged.stop();
  const file = globSync(join(data, 'storage/blobs/**/*')).find((path) => statSync(path).size === bytes.length)!;
  const stored = readFileSync(file);
  stored[5]! ^= 1;
  writeFileSync(file, stored);

  const scrub = async (...registries: object[]): Promise<string> => {
    const path = join(temporaryFolder('config'), 'longshore.yaml');
    writeFileSync(path, JSON.stringify({ ...config, heal: { registries } }));
    const { output } = await cli(['scrub', 'run', '--full-speed', '--data', data, '--config', path]);
    const list = await cli(['scrub', 'damaged', '--data', data, '--config', path]);
    assert.ok(!`${output}${list.output}`.includes(PASSWORDS.alice), 'the password is in what it says');
    return list.output;
  };
  await using liar = await lying((_request, response) => response.end(Buffer.alloc(bytes.length)));
  const right = { url: healthy.url, username: 'alice', password: PASSWORDS.alice, allowPrivateAddresses: true };
  const said = await scrub(
    { ...right, allowPrivateAddresses: false },
    { ...right, password: 'wrong' },
    { ...right, repository: 'alice/none' },
    { url: liar.origin, allowPrivateAddresses: true },
  );
  for (const why of [/not at a public address/, /credentials are wrong/, /has not got it/, /hash to/])
    assert.match(said, why);
  hastenJobs(data);
  assert.match(await scrub({ url: liar.origin, allowPrivateAddresses: true }, right), /Nothing is damaged/);

  const again = await startLongshore({ config, data });
  const pulled = await ask(again, 'GET', `/v2/team/app/blobs/${digest}`);
  assert.equal(pulled.status, 200);
  assert.ok(pulled.body.equals(bytes));
  await again.stop();
});
