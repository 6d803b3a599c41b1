/**
 * The store does what the model does: random histories of pushes, uploads, mounts, deletes and undeletes over a small
 * world, applied to both, must give the same answers and leave the same lists. A failing seed replays.
 */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import { digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { OCI_INDEX, OCI_MANIFEST } from '../oci/media-types.ts';
import type { Algorithm, Digest, RepositoryName, Tag, UploadId } from '../oci/names.ts';
import type { Call } from '../registry/call.ts';
import type { Guards } from '../registry/guard.ts';
import { memoryRegistry } from '../registry/memory.ts';
import type { BlobSources, Store } from '../registry/registry.ts';
import { freshLocal } from './fresh.testing.ts';

type Both = Store & BlobSources;
const REPOSITORIES = ['a', 'a/b', 'other'] as RepositoryName[];
const TAGS = ['v1', 'v2', 'latest'] as Tag[];
const PEOPLE: Call[] = ['ann', 'bob'].map((name) => ({
  principal: { kind: 'user', id: `user:${name}`, name },
  requestId: name,
  signal: new AbortController().signal,
}));
const ALGORITHMS: Algorithm[] = ['sha256', 'sha512'];
/** Small ones are kept inline, the largest goes through a file. */
const BLOBS = [Buffer.alloc(0), Buffer.from('one'), Buffer.alloc(3000, 'two'), Buffer.alloc(50_000, 'three')];

const digestOfBlob = (blob: number, algorithm: Algorithm): Digest => digestOf(BLOBS[blob]!, algorithm);

function image(blobs: readonly number[], subject?: Digest): Buffer {
  const descriptor = (blob: number) => ({
    mediaType: 'application/x',
    digest: digestOfBlob(blob, 'sha256'),
    size: BLOBS[blob]!.length,
  });
  const about = subject === undefined ? {} : { subject: { mediaType: OCI_MANIFEST, digest: subject, size: 1 } };
  const [config = 1, ...layers] = blobs;
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: descriptor(config),
      layers: layers.map(descriptor),
      ...about,
    }),
  );
}

function index(children: readonly Digest[]): Buffer {
  const manifests = children.map((digest) => ({ mediaType: OCI_MANIFEST, digest, size: 1 }));
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }));
}

const IMAGES = [image([1]), image([1, 2]), image([3, 1, 0]), image([0], digestOf(image([1])))];
const INDEXES = [index([digestOf(IMAGES[0]!)]), index([digestOf(IMAGES[0]!), digestOf(IMAGES[1]!)]), index([])];
const MANIFESTS = [...IMAGES, ...INDEXES];
const typeOf = (manifest: number): string => (manifest < IMAGES.length ? OCI_MANIFEST : OCI_INDEX);

/** One store with the uploads that the history has begun in it. */
interface World {
  readonly store: Both;
  readonly uploads: { id: UploadId; call: Call; repository: RepositoryName }[];
}
type Step = (world: World) => Promise<unknown>;

const repository = fc.constantFrom(...REPOSITORIES);
const call = fc.constantFrom(...PEOPLE);
const blob = fc.nat(BLOBS.length - 1);
const manifest = fc.nat(MANIFESTS.length - 1);
const algorithm = fc.constantFrom(...ALGORITHMS);
const tag = fc.constantFrom(...TAGS);
const digest = fc.oneof(
  fc.tuple(blob, algorithm).map(([b, a]) => digestOfBlob(b, a)),
  manifest.map((m) => digestOf(MANIFESTS[m]!)),
);
const guards: fc.Arbitrary<Guards> = fc.constantFrom<Guards>(
  [],
  [],
  [{ kind: 'tags-unmoved', rule: 'fixed', include: ['v*'], except: ['v2'] }],
  [{ kind: 'tag-at', tag: 'v1' as Tag, digest: null }],
);
const upload = fc.nat(5);

/** The upload that both worlds began as their n-th, if there is one; asked by its owner or by somebody else. */
function withUpload(
  n: number,
  stranger: boolean,
  work: (world: World, begun: World['uploads'][number]) => Promise<unknown>,
): Step {
  return async (world) => {
    const begun = world.uploads[world.uploads.length === 0 ? 0 : n % world.uploads.length];
    if (begun === undefined) return 'none';
    return work(world, stranger ? { ...begun, call: PEOPLE.find((one) => one !== begun.call)! } : begun);
  };
}

const stranger = fc.nat(9).map((n) => n === 0);
const step: fc.Arbitrary<{ name: string; run: Step }> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.tuple(call, repository, blob, algorithm, fc.nat(9)).map(([c, r, b, a, wrong]) => ({
      name: `pushBlob ${r} ${b} ${a}${wrong === 0 ? ' with another digest' : ''}`,
      run: ({ store }: World) =>
        store.pushBlob(
          c,
          r,
          { digest: digestOfBlob(wrong === 0 ? (b + 1) % BLOBS.length : b, a) },
          Readable.from([BLOBS[b]!], { objectMode: false }),
        ),
    })),
  },
  {
    weight: 5,
    arbitrary: fc
      .tuple(call, repository, manifest, fc.uniqueArray(tag, { maxLength: 2 }), guards)
      .map(([c, r, m, tags, g]) => ({
        name: `pushManifest ${r} ${m} ${tags}`,
        run: ({ store }: World) => store.pushManifest(c, r, MANIFESTS[m]!, typeOf(m), { tags, guards: g }),
      })),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(call, repository).map(([c, r]) => ({
      name: `startUpload ${r}`,
      run: async ({ store, uploads }: World) => {
        const status = await store.startUpload(c, r);
        uploads.push({ id: status.id, call: c, repository: r });
        return status.size;
      },
    })),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(upload, blob, fc.nat(60_000), fc.nat(4), stranger).map(([n, b, cut, off, s]) => ({
      name: `appendUpload ${n} ${b}[${cut}…]`,
      run: withUpload(n, s, async ({ store }, at) => {
        const { size } = await store.uploadStatus(at.call, at.repository, at.id);
        const bytes = BLOBS[b]!.subarray(size === 0 ? 0 : cut % (BLOBS[b]!.length + 1));
        const chunk = {
          body: Readable.from([bytes], { objectMode: false }),
          offset: size + (off === 0 ? 1 : 0),
          length: bytes.length,
        };
        return (await store.appendUpload(at.call, at.repository, at.id, chunk)).size;
      }),
    })),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(upload, blob, algorithm, fc.boolean(), stranger).map(([n, b, a, last, s]) => ({
      name: `commitUpload ${n} ${b} ${a}`,
      run: withUpload(n, s, ({ store, uploads }, at) => {
        const chunk = last ? { body: Readable.from([BLOBS[b]!], { objectMode: false }) } : undefined;
        uploads.splice(
          uploads.findIndex((one) => one.id === at.id),
          1,
        );
        return store.commitUpload(at.call, at.repository, at.id, digestOfBlob(b, a), chunk);
      }),
    })),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(upload, stranger).map(([n, s]) => ({
      name: `cancelUpload ${n}`,
      run: withUpload(n, s, ({ store }, at) => store.cancelUpload(at.call, at.repository, at.id)),
    })),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(call, repository, repository, digest).map(([c, r, from, d]) => ({
      name: `mountBlob ${r} ${from}`,
      run: ({ store }: World) => store.mountBlob(c, r, d, from),
    })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(call, repository, digest)
      .map(([c, r, d]) => ({ name: `deleteBlob ${r}`, run: ({ store }: World) => store.deleteBlob(c, r, d) })),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(call, repository, digest, guards).map(([c, r, d, g]) => ({
      name: `deleteManifest ${r}`,
      run: ({ store }: World) => store.deleteManifest(c, r, d, g),
    })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(call, repository, tag, guards)
      .map(([c, r, t, g]) => ({ name: `deleteTag ${r} ${t}`, run: ({ store }: World) => store.deleteTag(c, r, t, g) })),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(call, repository, manifest, tag, fc.boolean()).map(([c, r, m, t, byTag]) => ({
      name: `restore ${r} ${byTag ? t : m}`,
      run: ({ store }: World) => store.restore(c, r, byTag ? { tag: t } : { digest: digestOf(MANIFESTS[m]!) }),
    })),
  },
);

/** What an operation gave, with what differs between stores on purpose (ids, messages) left out. */
async function outcome(run: Step, world: World): Promise<unknown> {
  try {
    return (await run(world)) ?? 'nothing';
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    return `${error.code} ${error.status}`;
  }
}

/** Everything that can be asked. */
async function picture(store: Both): Promise<unknown> {
  const asked = PEOPLE[0]!;
  const page = { limit: 100 };
  const answer: Record<string, unknown> = {
    repositories: await outcome(() => store.listRepositories(asked, page), { store, uploads: [] }),
  };
  for (const r of REPOSITORIES) {
    const ask = (name: string, run: Step) =>
      outcome(run, { store, uploads: [] }).then((value) => void (answer[`${r} ${name}`] = value));
    await ask('tags', () => store.listTags(asked, r, page));
    for (const t of TAGS) await ask(t, () => store.resolveManifest(asked, r, { tag: t }));
    for (const bytes of MANIFESTS) {
      await ask(`manifest ${digestOf(bytes)}`, async () =>
        Buffer.from((await store.getManifest(asked, r, { digest: digestOf(bytes) })).bytes).toString(),
      );
      await ask(`referrers ${digestOf(bytes)}`, () => store.listReferrers(asked, r, digestOf(bytes), undefined, page));
    }
    for (const [b] of BLOBS.entries())
      for (const a of ALGORITHMS) await ask(`blob ${b} ${a}`, () => store.resolveBlob(asked, r, digestOfBlob(b, a)));
  }
  return answer;
}

test('random histories give the same answers as the model', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), async (steps) => {
      const opened = await freshLocal();
      try {
        const real: World = { store: opened.store, uploads: [] };
        const model: World = { store: memoryRegistry(), uploads: [] };
        for (const [at, { name, run }] of steps.entries()) {
          const [expected, actual] = [await outcome(run, model), await outcome(run, real)];
          assert.deepEqual(actual, expected, `step ${at}: ${name}`);
        }
        assert.deepEqual(await picture(real.store), await picture(model.store));
      } finally {
        await opened.close();
      }
    }),
    // No shrinking: the seed replays, and each step is a durable commit.
    { numRuns: Number(process.env.LONGSHORE_TEST_RUNS ?? 20), endOnFailure: true, ...seeded() },
  );
});

/** The same histories each time; LONGSHORE_TEST_SEED takes others or replays one, and "random" looks for new ones. */
function seeded(): { seed?: number } {
  const seed = process.env.LONGSHORE_TEST_SEED ?? '1';
  return seed === 'random' ? {} : { seed: Number(seed) };
}
