/** The law of a rebuild: after any history, what a registry answers from storage alone is what it answered before. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DOCKER_LIST, DOCKER_MANIFEST, OCI_MANIFEST } from '../oci/media-types.ts';
import type { Algorithm, Digest, RepositoryName, Tag } from '../oci/names.ts';
import { blob, descriptor, image, index, manifest, type Sample } from '../registry/samples.testing.ts';
import { memoryStorage } from '../storage/memory.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { CALL, type OpenDatabase, TICKS } from './gc.testing.ts';
import { mirrorRepository } from './mirror.ts';
import { type Installation, installed, picture, sound } from './reindex.testing.ts';
import { refuseHalfRebuilt } from './reindex-mark.ts';

/** Repositories that lie within each other, and that are called like parts of the protocol. */
const NAMES = ['a', 'a/b', 'a/b/c', 'a/blobs', 'a/blobs/uploads', 'a/manifests/x', 'a/tags/list', 'other'];

/** Small ones are kept inline, the largest goes through a file. */
export const BLOBS: readonly Sample[] = [
  blob(''),
  blob('one'),
  blob('two', 'sha512'),
  blob('three'.repeat(1000)),
  blob('four'.repeat(12_000)),
  blob('five'.repeat(12_000), 'sha512'),
];
/** The blob of that number. */
export const at = (number: number): Sample => BLOBS[number]!;
const dockerImage = {
  schemaVersion: 2,
  mediaType: DOCKER_MANIFEST,
  config: descriptor(at(1)),
  layers: [descriptor(at(4))],
};
/** Images, each with the numbers of its blobs. */
export const IMAGES: readonly (readonly [Sample, readonly number[]])[] = [
  [image(at(1), [at(0)]), [1, 0]],
  [image(at(1), [at(3), at(4)]), [1, 3, 4]],
  [image(at(2), [at(5)]), [2, 5]],
  [manifest(dockerImage, DOCKER_MANIFEST), [1, 4]],
  [
    manifest(
      { schemaVersion: 2, mediaType: OCI_MANIFEST, config: descriptor(at(3)), layers: [] },
      OCI_MANIFEST,
      'sha512',
    ),
    [3],
  ],
];
const aboutFirst = {
  subject: descriptor(IMAGES[0]![0]),
  artifactType: 'application/x.about',
  annotations: { 'a.b': 'c' },
};
const ARTIFACTS: readonly (readonly [Sample, readonly number[]])[] = [
  [image(at(1), [at(0)], aboutFirst), [1, 0]],
  [image(at(1), [at(3)], { subject: descriptor(blob('never pushed')) }), [1, 3]],
];
const PLAIN = [...IMAGES, ...ARTIFACTS];
/** Each with the numbers of the images that it names. */
export const INDEXES: readonly (readonly [Sample, readonly number[]])[] = [
  [index([IMAGES[0]![0], IMAGES[1]![0]]), [0, 1]],
  [index([ARTIFACTS[0]![0]]), [5]],
  [index([IMAGES[2]![0]], { subject: descriptor(IMAGES[0]![0]) }), [2]],
  [manifest({ schemaVersion: 2, mediaType: DOCKER_LIST, manifests: [descriptor(IMAGES[3]![0])] }, DOCKER_LIST), [3]],
  [index([]), []],
];
const TAGS = ['v1', 'v2', 'latest', 'UPPER', `sha256-${IMAGES[1]![0].digest.slice(7)}`];

/** Pushes an image or artifact with its blobs. */
export async function pushPlain(
  to: Installation,
  repository: string,
  number: number,
  ...tags: string[]
): Promise<void> {
  const [sample, blobs] = PLAIN[number]!;
  for (const one of blobs) await to.pushBlob(repository, at(one).bytes, algorithm(at(one).digest));
  await to.push(repository, sample, ...tags);
}

/** Pushes an index with all below it. */
export async function pushIndex(
  to: Installation,
  repository: string,
  number: number,
  ...tags: string[]
): Promise<void> {
  const [sample, children] = INDEXES[number]!;
  for (const child of children) await pushPlain(to, repository, child);
  await to.push(repository, sample, ...tags);
}

const algorithm = (digest: Digest): Algorithm => (digest.startsWith('sha512') ? 'sha512' : 'sha256');
/** A name that is known to be one. */
export const name = (text: string): RepositoryName => text as RepositoryName;

type Step = (to: Installation) => Promise<unknown>;
const repository = fc.constantFrom(...NAMES) as fc.Arbitrary<string>;
const tags = fc.uniqueArray(fc.constantFrom(...TAGS), { maxLength: 2 });
const anyManifest = fc.constantFrom(...[...PLAIN, ...INDEXES].map(([sample]) => sample.digest));
const anyTag = fc.constantFrom(...TAGS) as fc.Arbitrary<string>;

const weighted = (weight: number, arbitrary: fc.Arbitrary<Step>) => ({ weight, arbitrary });
const step: fc.Arbitrary<Step> = fc.oneof(
  weighted(
    6,
    fc.tuple(repository, fc.nat(PLAIN.length - 1), tags).map(
      ([r, n, t]) =>
        (to) =>
          pushPlain(to, r, n, ...t),
    ),
  ),
  weighted(
    4,
    fc.tuple(repository, fc.nat(INDEXES.length - 1), tags).map(
      ([r, n, t]) =>
        (to) =>
          pushIndex(to, r, n, ...t),
    ),
  ),
  weighted(
    2,
    fc.tuple(repository, fc.nat(BLOBS.length - 1)).map(
      ([r, b]) =>
        (to) =>
          to.pushBlob(r, at(b).bytes, algorithm(at(b).digest)),
    ),
  ),
  weighted(
    3,
    fc.tuple(repository, anyManifest).map(
      ([r, d]) =>
        (to) =>
          to.store.deleteManifest(CALL, name(r), d),
    ),
  ),
  weighted(
    2,
    fc.tuple(repository, anyTag).map(
      ([r, t]) =>
        (to) =>
          to.store.deleteTag(CALL, name(r), t as Tag),
    ),
  ),
  weighted(
    1,
    fc.tuple(repository, anyManifest).map(
      ([r, digest]) =>
        (to) =>
          to.store.restore(CALL, name(r), { digest }),
    ),
  ),
  weighted(
    1,
    repository.map((r) => (to) => to.store.deleteRepository(CALL, name(r))),
  ),
  weighted(
    1,
    repository.map((r) => (to) => mirrorRepository(to, name(r))),
  ),
  weighted(
    1,
    fc.integer({ min: 1, max: 9 }).map((count) => (to) => to.tick(count)),
  ),
  weighted(
    1,
    fc.constant((to: Installation) => to.collect()),
  ),
  weighted(
    1,
    fc.constant((to: Installation) => to.drain()),
  ),
);

/** Rebuilds into a new database and hands it over with the problems that were told. */
export function rebuilt<T>(
  open: OpenDatabase,
  storage: BlobStorage,
  work: (to: Installation, problems: string[]) => Promise<T>,
): Promise<T> {
  return installed(open, storage, async (to) => {
    const problems: string[] = [];
    await to.reindex({ onProblem: ({ repository: of, what }) => problems.push(`${of ?? ''}: ${what}`) });
    await refuseHalfRebuilt(to.database);
    await sound(to);
    return work(to, problems);
  });
}

/** Lets every grace pass and collects to the end. */
export async function collectAll(to: Installation): Promise<void> {
  await to.tick(TICKS.grace + 1);
  await to.collect();
  await to.tick(3);
  await to.collect();
  await sound(to, true);
}

/** Registers the law. */
export function historiesContract(open: OpenDatabase, histories: number): void {
  test('after any history, a drain and the loss of the database, every answer is the same', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        const storage = memoryStorage();
        const before = await installed(open, storage, async (first) => {
          for (const run of steps) {
            await run(first).catch((error: { code?: string }) => {
              if (error.code === undefined) throw error;
            });
          }
          await first.drain();
          return picture(first, NAMES);
        });
        await rebuilt(open, storage, async (second, problems) => {
          assert.deepEqual(problems, []);
          assert.deepEqual(await picture(second, NAMES), before);
          await collectAll(second);
          assert.deepEqual(await picture(second, NAMES), before);
        });
      }),
      { numRuns: Number(process.env.LONGSHORE_TEST_RUNS ?? histories), endOnFailure: true, seed: seed() },
    );
  });
}

/** The same histories each time; LONGSHORE_TEST_SEED takes others or replays one. */
function seed(): number {
  const given = process.env.LONGSHORE_TEST_SEED ?? '1';
  return given === 'random' ? Math.floor(Math.random() * 2 ** 31) : Number(given);
}
