/** Edge cases 69-77: referrers. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  type Answer,
  type Descriptor,
  DOCKER_MANIFEST,
  descriptor,
  digestOf,
  EMPTY_CONFIG,
  expectError,
  expectStatus,
  get,
  imageIndex,
  nextOf,
  OCI_INDEX,
  OCI_MANIFEST,
  type PushedImage,
  pushBlob,
  pushImage,
  putManifest,
} from '../support/oci.ts';
import { open } from '../support/open.ts';
import { ask } from '../support/wire.ts';

const server = await open();
const EMPTY_TYPE = 'application/vnd.oci.empty.v1+json';

/** An artifact's manifest that refers to `subject`. */
function artifact(subject: object | undefined, more: object = {}): string {
  return JSON.stringify({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: descriptor(EMPTY_CONFIG, EMPTY_TYPE),
    layers: [descriptor(EMPTY_CONFIG, EMPTY_TYPE)],
    ...(subject === undefined ? {} : { subject }),
    ...more,
  });
}

async function refer(
  repository: string,
  subject: object,
  more: object = {},
): Promise<{ digest: string; text: string; put: Answer }> {
  await pushBlob(server, repository, EMPTY_CONFIG);
  const text = artifact(subject, more);
  const put = await putManifest(server, repository, digestOf(text), text);
  expectStatus(put, 201);
  return { digest: digestOf(text), text, put };
}

async function referrers(repository: string, digest: string, query = ''): Promise<Descriptor[]> {
  const found: Descriptor[] = [];
  for (let next: string | undefined = `/v2/${repository}/referrers/${digest}${query}`; next !== undefined; ) {
    const page = await get(server, next);
    expectStatus(page, 200);
    assert.equal(page.header('content-type'), OCI_INDEX);
    const index = page.json();
    assert.equal(index.schemaVersion, 2);
    assert.equal(index.mediaType, OCI_INDEX);
    found.push(...index.manifests);
    next = nextOf(page);
    assert.ok(found.length < 10_000);
  }
  return found;
}

const digestsOf = (list: readonly Descriptor[]): string[] => list.map((entry) => entry.digest).sort();

describe('referrers', { concurrency: true }, () => {
  it('E69 referrers of an unknown digest or repository are an empty index, never 404', async () => {
    await pushImage(server, 'e69', 'v1');
    for (const path of [`/v2/e69/referrers/${digestOf('unknown')}`, `/v2/e69/never/referrers/${digestOf('unknown')}`]) {
      const answer = await get(server, path);
      expectStatus(answer, 200);
      assert.equal(answer.header('content-type'), OCI_INDEX);
      assert.deepEqual(answer.json(), { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [] });
      const probe = await ask(server, 'HEAD', path);
      expectStatus(probe, 200);
      assert.equal(probe.header('content-length'), String(answer.body.length));
    }
  });

  it('E70 what is not a digest is 400', async () => {
    for (const text of ['latest', 'sha256:abc', `sha256:${'A'.repeat(64)}`, `md5:${'a'.repeat(32)}`, 'sha256']) {
      expectError(await get(server, `/v2/e70/referrers/${text}`), 400, 'DIGEST_INVALID');
    }
  });

  it('E71 a PUT with a subject answers OCI-Subject, for images and for indexes', async () => {
    const image = await pushImage(server, 'e71', 'v1');
    const referrer = await refer('e71', image.descriptor, { artifactType: 'application/x' });
    assert.equal(referrer.put.header('oci-subject'), image.digest);
    const index = imageIndex([], { subject: image.descriptor, artifactType: 'application/y' });
    assert.equal((await putManifest(server, 'e71', 'index', index, OCI_INDEX)).header('oci-subject'), image.digest);
    const docker = artifact(image.descriptor, { mediaType: DOCKER_MANIFEST });
    assert.equal(
      (await putManifest(server, 'e71', 'docker', docker, DOCKER_MANIFEST)).header('oci-subject'),
      image.digest,
    );
    assert.equal((await putManifest(server, 'e71', 'v1', image.manifest)).header('oci-subject'), '');
    assert.deepEqual(
      digestsOf(await referrers('e71', image.digest)),
      [referrer.digest, digestOf(index), digestOf(docker)].sort(),
    );
  });

  it('E72 the subject need not be here', async () => {
    const missing = descriptor('{"not":"here"}', OCI_MANIFEST);
    const referrer = await refer('e72', missing, { artifactType: 'application/x' });
    assert.equal(referrer.put.header('oci-subject'), missing.digest);
    assert.deepEqual(digestsOf(await referrers('e72', missing.digest)), [referrer.digest]);
  });

  it('E73 the descriptor has type, size, artifact type and annotations', async () => {
    const image = await pushImage(server, 'e73', 'v1');
    const annotations = { 'org.example/a': 'b', ü: '"quoted" \n line' };
    const own = await refer('e73', image.descriptor, { artifactType: 'application/own', annotations });
    const byConfig = await refer('e73', image.descriptor, { layers: [] });
    const index = imageIndex([], { subject: image.descriptor, annotations: { i: '1' } });
    expectStatus(await putManifest(server, 'e73', 'index', index, OCI_INDEX), 201);
    const list = await referrers('e73', image.digest);
    const of = (digest: string): Descriptor | undefined => list.find((entry) => entry.digest === digest);
    assert.deepEqual(of(own.digest), {
      mediaType: OCI_MANIFEST,
      digest: own.digest,
      size: Buffer.byteLength(own.text),
      artifactType: 'application/own',
      annotations,
    });
    assert.deepEqual(of(byConfig.digest), {
      mediaType: OCI_MANIFEST,
      digest: byConfig.digest,
      size: Buffer.byteLength(byConfig.text),
      artifactType: EMPTY_TYPE,
    });
    assert.deepEqual(of(digestOf(index)), {
      mediaType: OCI_INDEX,
      digest: digestOf(index),
      size: index.length,
      annotations: { i: '1' },
    });
  });

  it('E74 artifactType filters, percent-encoded or with a plus', async () => {
    const image = await pushImage(server, 'e74', 'v1');
    const sbom = await refer('e74', image.descriptor, { artifactType: 'application/spdx+json' });
    const signature = await refer('e74', image.descriptor, { artifactType: 'application/vnd.example.signature' });
    for (const query of ['application/spdx+json', 'application%2Fspdx%2Bjson', 'application%2Fspdx+json']) {
      const answer = await get(server, `/v2/e74/referrers/${image.digest}?artifactType=${query}`);
      assert.equal(answer.header('oci-filters-applied'), 'artifactType');
      assert.deepEqual(digestsOf(answer.json().manifests), [sbom.digest], query);
    }
    assert.deepEqual(digestsOf(await referrers('e74', image.digest, '?artifactType=application/none')), []);
    const all = await get(server, `/v2/e74/referrers/${image.digest}`);
    assert.equal(all.header('oci-filters-applied'), '');
    assert.deepEqual(digestsOf(all.json().manifests), [sbom.digest, signature.digest].sort());
  });

  it('E75 a long list comes in pages, and the filter stays in the Link', async () => {
    const image = await pushImage(server, 'e75', 'v1');
    const pushed: string[] = [];
    for (let i = 0; i < 6; i += 1) {
      const annotations = { filler: `${i}${'x'.repeat(1024 * 1024)}` };
      pushed.push(
        (
          await refer('e75', image.descriptor, {
            artifactType: i % 2 ? 'application/odd+x' : 'application/even+x',
            annotations,
          })
        ).digest,
      );
    }
    const first = await get(server, `/v2/e75/referrers/${image.digest}`);
    assert.notEqual(nextOf(first), undefined, 'no Link');
    assert.ok(first.body.length <= 4 * 1024 * 1024);
    assert.deepEqual(digestsOf(await referrers('e75', image.digest)), [...pushed].sort());
    const odd = pushed.filter((_, i) => i % 2 === 1).sort();
    assert.deepEqual(digestsOf(await referrers('e75', image.digest, '?artifactType=application%2Fodd%2Bx')), odd);
    for (let i = 6; i < 14; i += 1) {
      const annotations = { filler: `${i}${'x'.repeat(1024 * 1024)}` };
      pushed.push((await refer('e75', image.descriptor, { artifactType: 'application/odd+x', annotations })).digest);
    }
    const filtered = await get(server, `/v2/e75/referrers/${image.digest}?artifactType=application/odd%2Bx`);
    const next = nextOf(filtered);
    assert.ok(next !== undefined);
    assert.equal(new URL(next, 'http://x').searchParams.get('artifactType'), 'application/odd+x', next);
    assert.equal((await get(server, next)).header('oci-filters-applied'), 'artifactType');
  });

  it('E76 a deleted referrer leaves the list at once; the subject gone, referrers stay', async () => {
    const image = await pushImage(server, 'e76', 'v1');
    const one = await refer('e76', image.descriptor, { annotations: { n: '1' } });
    const two = await refer('e76', image.descriptor, { annotations: { n: '2' } });
    expectStatus(await ask(server, 'DELETE', `/v2/e76/manifests/${one.digest}`), 202);
    assert.deepEqual(digestsOf(await referrers('e76', image.digest)), [two.digest]);
    expectStatus(await ask(server, 'DELETE', `/v2/e76/manifests/${image.digest}`), 202);
    assert.deepEqual(digestsOf(await referrers('e76', image.digest)), [two.digest]);
    expectStatus(await get(server, `/v2/e76/manifests/${two.digest}`), 200);
  });

  /** Pushes an artifact that names no subject, and lists it under the fallback tag, as clients did before. */
  async function fallback(
    repository: string,
    image: PushedImage,
    listed: (own: Descriptor) => object,
  ): Promise<{ digest: string; index: string }> {
    await pushBlob(server, repository, EMPTY_CONFIG);
    const text = artifact(undefined, { artifactType: 'application/old', annotations: { from: 'manifest' } });
    expectStatus(await putManifest(server, repository, digestOf(text), text), 201);
    const index = imageIndex([listed(descriptor(text, OCI_MANIFEST)) as Descriptor]);
    expectStatus(await putManifest(server, repository, image.digest.replace(':', '-'), index, OCI_INDEX), 201);
    return { digest: digestOf(text), index };
  }

  it('E77 what the fallback tag lists is merged, with facts from the manifests; the tag stays a tag', async () => {
    const image = await pushImage(server, 'e77', 'v1');
    const old = await fallback('e77', image, (own) => own);
    const fresh = await refer('e77', image.descriptor, { artifactType: 'application/new' });
    const list = await referrers('e77', image.digest);
    assert.deepEqual(digestsOf(list), [old.digest, fresh.digest].sort());
    const merged = list.find((entry) => entry.digest === old.digest);
    assert.equal(merged?.artifactType, 'application/old');
    assert.deepEqual(merged?.annotations, { from: 'manifest' });
    assert.deepEqual(digestsOf(await referrers('e77', image.digest, '?artifactType=application/old')), [old.digest]);
    const tag = image.digest.replace(':', '-');
    assert.equal((await get(server, `/v2/e77/manifests/${tag}`)).text(), old.index);
    assert.ok((await get(server, '/v2/e77/tags/list')).json().tags.includes(tag));
  });

  it('E77 a referrer that is in the fallback index too is listed once', async () => {
    const image = await pushImage(server, 'e77b', 'v1');
    const both = await refer('e77b', image.descriptor, { artifactType: 'application/both' });
    const index = imageIndex([descriptor(both.text, OCI_MANIFEST)]);
    expectStatus(await putManifest(server, 'e77b', image.digest.replace(':', '-'), index, OCI_INDEX), 201);
    assert.deepEqual(digestsOf(await referrers('e77b', image.digest)), [both.digest]);
  });

  it('E77 the fallback tag of a digest that has none is 404, whatever the digest is', async () => {
    const image = await pushImage(server, 'e77c', 'v1');
    const index = imageIndex([image.descriptor]);
    expectStatus(await putManifest(server, 'e77c', 'index', index, OCI_INDEX), 201);
    expectError(await get(server, `/v2/e77c/manifests/${digestOf(index).replace(':', '-')}`), 404, 'MANIFEST_UNKNOWN');
    assert.deepEqual(await referrers('e77c', digestOf(index)), []);
  });
});
