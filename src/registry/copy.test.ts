import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RegistryError } from '../oci/error.ts';
import { OCI_MANIFEST } from '../oci/media-types.ts';
import { type CopyOptions, copy } from './copy.ts';
import { eachPage } from './each-page.ts';
import { memoryRegistry } from './memory.ts';
import { Passthrough } from './passthrough.ts';
import type { Page, PageRequest, Store } from './registry.ts';
import {
  blob,
  callAs,
  descriptor,
  image,
  index,
  pullBlob,
  pushBlob,
  pushImage,
  pushManifest,
  refused,
  repo,
  type Sample,
  tag,
} from './samples.testing.ts';

const ann = callAs('ann');
const a = repo('team/app');
const b = repo('mirror/app');
const plain: CopyOptions = { referrers: false, concurrency: 3 };

/** Counts the pushes of blobs, and how many ran at once. */
class Counting extends Passthrough {
  attempts = 0;
  blobs = 0;
  most = 0;
  failAfter = Number.POSITIVE_INFINITY;
  readonly order: string[] = [];
  #now = 0;

  override async pushBlob(...args: Parameters<Store['pushBlob']>) {
    this.attempts++;
    if (this.blobs >= this.failAfter) throw new RegistryError('UNAVAILABLE', 'planted');
    this.blobs++;
    this.most = Math.max(this.most, ++this.#now);
    await new Promise((resolve) => setImmediate(resolve));
    try {
      return await super.pushBlob(...args);
    } finally {
      this.#now--;
    }
  }

  override async pushManifest(...args: Parameters<Store['pushManifest']>) {
    const pushed = await super.pushManifest(...args);
    this.order.push(`${pushed.descriptor.digest} ${pushed.tags.join()}`);
    return pushed;
  }
}

function target(): Counting {
  return new Counting(memoryRegistry());
}

const platform = (architecture: string, variant?: string) => ({
  platform: { os: 'linux', architecture, ...(variant === undefined ? {} : { variant }) },
});

/** An index of amd64, arm64/v8 and an attestation of the first, in `a`. */
async function multi(store: Store): Promise<{ root: Sample; amd: Sample; arm: Sample; attestation: Sample }> {
  const amd = await pushImage(store, ann, a, 'amd');
  const arm = await pushImage(store, ann, a, 'arm');
  const attestation = await pushImage(store, ann, a, 'attestation');
  const root = index([
    descriptor(amd, platform('amd64')),
    descriptor(arm, platform('arm64', 'v8')),
    descriptor(attestation, {
      platform: { os: 'unknown', architecture: 'unknown' },
      annotations: { 'vnd.docker.reference.digest': amd.digest },
    }),
  ]);
  await pushManifest(store, ann, a, root, 'v1');
  return { root, amd, arm, attestation };
}

function referrer(subject: Sample, n: number): Sample {
  return image(blob('{"seed":"amd"}'), [], {
    artifactType: 'type/signature',
    annotations: { n: String(n) },
    subject: { ...descriptor(subject), mediaType: OCI_MANIFEST },
  });
}

describe('copy', () => {
  test('an image with its tags, with progress that ends at its total', async () => {
    const from = memoryRegistry();
    const one = await pushImage(from, ann, a, 'one', 'v1');
    const to = target();
    const seen: [number, number][] = [];
    const options = { ...plain, onProgress: (done: number, total: number) => seen.push([done, total]) };
    const tags = [tag('x'), tag('y')];
    const copied = await copy(
      ann,
      from,
      to,
      { repository: a, reference: { tag: tag('v1') } },
      { repository: b, tags },
      options,
    );
    assert.deepEqual(copied, { mediaType: OCI_MANIFEST, digest: one.digest, size: one.bytes.length });
    assert.deepEqual((await to.listTags(ann, b, { limit: 9 })).items, ['x', 'y']);
    assert.equal(String(await pullBlob(to, ann, b, blob('layer of one').digest)), 'layer of one');
    const bytes = one.bytes.length + 'layer of one'.length + '{"seed":"one"}'.length;
    assert.deepEqual(seen.at(-1), [bytes, bytes]);
    assert.ok(seen.every(([done, total]) => done <= total));
  });

  test('an index, children first, and again without sending anything', async () => {
    const from = memoryRegistry();
    const { root, amd, arm, attestation } = await multi(from);
    const to = target();
    const run = () =>
      copy(ann, from, to, { repository: a, reference: { digest: root.digest } }, { repository: b, tags: [] }, plain);
    assert.equal((await run()).digest, root.digest);
    assert.equal(to.order.at(-1), `${root.digest} `);
    assert.equal(to.blobs, 6);
    assert.ok(to.most <= 3);
    for (const one of [amd, arm, attestation]) await to.getManifest(ann, b, { digest: one.digest });
    await run();
    assert.equal(to.blobs, 6);
    assert.equal(to.order.length, 4);
  });

  test('goes on where it failed, and stops everything when one part fails', async () => {
    const from = memoryRegistry();
    const { root } = await multi(from);
    const to = target();
    to.failAfter = 4;
    const run = () =>
      copy(
        ann,
        from,
        to,
        { repository: a, reference: { tag: tag('v1') } },
        { repository: b, tags: [tag('v1')] },
        { ...plain, concurrency: 1 },
      );
    await refused(run(), 'UNAVAILABLE');
    const { blobs } = to;
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(to.blobs, blobs);
    assert.equal(to.attempts, 5);
    await refused(to.resolveManifest(ann, b, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
    to.failAfter = Number.POSITIVE_INFINITY;
    assert.equal((await run()).digest, root.digest);
    assert.equal(to.blobs, 6);
  });

  test('within one registry blobs are mounted, not sent', async () => {
    const to = target();
    const one = await pushImage(to, ann, a, 'one', 'v1');
    const before = to.blobs;
    await copy(
      ann,
      to,
      to,
      { repository: a, reference: { tag: tag('v1') } },
      { repository: b, tags: [tag('v1')] },
      plain,
    );
    assert.equal(to.blobs, before);
    assert.equal((await to.resolveManifest(ann, b, { tag: tag('v1') })).digest, one.digest);
  });

  test('some platforms: the index is narrowed, attestations go with their image', async () => {
    const from = memoryRegistry();
    const { root, amd, arm, attestation } = await multi(from);
    const run = async (to: Store, platforms: string[], reference: { tag: ReturnType<typeof tag> }) =>
      copy(ann, from, to, { repository: a, reference }, { repository: b, tags: [] }, { ...plain, platforms });
    const v1 = { tag: tag('v1') };
    const first = target();
    const copied = await run(first, ['linux/amd64'], v1);
    assert.notEqual(copied.digest, root.digest);
    const narrowed = JSON.parse(Buffer.from((await first.getManifest(ann, b, copied)).bytes).toString());
    assert.deepEqual(
      narrowed.manifests.map((child: { digest: string }) => child.digest),
      [amd.digest, attestation.digest],
    );
    await refused(first.resolveManifest(ann, b, { digest: arm.digest }), 'MANIFEST_UNKNOWN');
    assert.equal((await run(target(), ['linux/amd64', 'linux/arm64'], v1)).digest, root.digest);
    await run(target(), ['linux/arm64/v8'], v1);
    await refused(run(target(), ['linux/arm64/v7'], v1), 'MANIFEST_UNKNOWN');
    await refused(run(target(), ['windows/amd64'], v1), 'MANIFEST_UNKNOWN');
    await pushManifest(from, ann, a, index([root]), 'nested');
    const second = target();
    const nested = await run(second, ['linux/amd64'], { tag: tag('nested') });
    const outer = JSON.parse(Buffer.from((await second.getManifest(ann, b, nested)).bytes).toString());
    assert.equal(outer.manifests[0].digest, copied.digest);
    assert.equal(outer.manifests[0].size, copied.size);
  });

  test('referrers of all that is copied come before the tag, theirs too, and cosign tags', async () => {
    const from = memoryRegistry();
    const { root, amd } = await multi(from);
    const ofRoot = referrer(root, 1);
    const ofChild = referrer(amd, 2);
    const ofReferrer = referrer(ofRoot, 3);
    const around = index([amd], { subject: descriptor(amd), artifactType: 'type/around' });
    for (const one of [ofRoot, ofChild, ofReferrer, around]) await pushManifest(from, ann, a, one);
    const cosign = `${root.digest.replace(':', '-')}.sig`;
    const signature = await pushImage(from, ann, a, 'signature', cosign);
    const to = target();
    const source = { repository: a, reference: { tag: tag('v1') } };
    await copy(ann, from, to, source, { repository: b, tags: [tag('v1')] }, { referrers: true, concurrency: 2 });
    for (const one of [ofRoot, ofChild, ofReferrer, around, signature]) {
      await to.getManifest(ann, b, { digest: one.digest });
    }
    assert.equal((await to.resolveManifest(ann, b, { tag: tag(cosign) })).digest, signature.digest);
    assert.equal(to.order.at(-1), `${root.digest} v1`);
    const without = target();
    await copy(ann, from, without, source, { repository: b, tags: [] }, plain);
    await refused(without.resolveManifest(ann, b, { digest: ofRoot.digest }), 'MANIFEST_UNKNOWN');
  });

  test('what a sparse source lacks is left to the target', async () => {
    const from = memoryRegistry({ sparse: 'all' });
    const amd = await pushImage(from, ann, a, 'amd');
    const root = index([amd, image(blob('absent'), [])]);
    await pushManifest(from, ann, a, root, 'v1');
    const source = { repository: a, reference: { tag: tag('v1') } };
    const sparse = memoryRegistry({ sparse: 'all' });
    await copy(ann, from, sparse, source, { repository: b, tags: [] }, plain);
    await refused(copy(ann, from, target(), source, { repository: b, tags: [] }, plain), 'MANIFEST_BLOB_UNKNOWN');
  });

  test('caches whose index names blobs, and layers that are not distributed', async () => {
    const from = memoryRegistry();
    const layer = blob('cached layer');
    await pushBlob(from, ann, a, layer);
    await pushBlob(from, ann, a, blob('{}'));
    await pushManifest(from, ann, a, index([descriptor(layer, { mediaType: 'application/x-layer' })]), 'cache');
    const foreign = { ...descriptor(blob('foreign')), urls: ['https://example.com/'] };
    await pushManifest(from, ann, a, image(blob('{}'), [], { layers: [foreign] }), 'foreign');
    const to = target();
    for (const name of ['cache', 'foreign']) {
      await copy(ann, from, to, { repository: a, reference: { tag: tag(name) } }, { repository: b, tags: [] }, plain);
    }
    assert.equal(String(await pullBlob(to, ann, b, layer.digest)), 'cached layer');
  });

  test('bytes of a lying source are not taken', async () => {
    const inner = memoryRegistry();
    const one = await pushImage(inner, ann, a, 'one');
    const root = index([one]);
    await pushManifest(inner, ann, a, root, 'v1');
    const lying = new (class extends Passthrough {
      override async getManifest(...args: Parameters<Store['getManifest']>) {
        const content = await super.getManifest(...args);
        return 'digest' in args[2] ? { ...content, bytes: Buffer.concat([content.bytes, Buffer.from(' ')]) } : content;
      }
    })(inner);
    const source = { repository: a, reference: { tag: tag('v1') } };
    await refused(copy(ann, lying, target(), source, { repository: b, tags: [] }, plain), 'DIGEST_INVALID');
  });

  test('an aborted call stops', async () => {
    const from = memoryRegistry();
    await pushImage(from, ann, a, 'one', 'v1');
    const call = { ...ann, signal: AbortSignal.abort(new Error('gone')) };
    const to = target();
    const source = { repository: a, reference: { tag: tag('v1') } };
    await refused(copy(call, from, to, source, { repository: b, tags: [] }, plain), 'UNAVAILABLE');
    assert.equal(to.blobs, 0);
  });
});

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

describe('each-page', () => {
  test('walks all pages, lazily, and not for ever', async () => {
    const asked: PageRequest[] = [];
    const list = async (page: PageRequest): Promise<Page<number>> => {
      asked.push(page);
      const start = Number(page.after ?? 0);
      return start + 2 < 5 ? { items: [start, start + 1], next: String(start + 2) } : { items: [start] };
    };
    assert.deepEqual(await all(eachPage(list, { limit: 2 })), [0, 1, 2, 3, 4]);
    assert.deepEqual(asked, [{ limit: 2 }, { limit: 2, after: '2' }, { limit: 2, after: '4' }]);
    asked.length = 0;
    for await (const _ of eachPage(list)) break;
    assert.equal(asked.length, 1);
    const stuck = eachPage<number>(async () => ({ items: [1], next: 'same' }));
    await refused(all(stuck), 'UNAVAILABLE');
  });
});
