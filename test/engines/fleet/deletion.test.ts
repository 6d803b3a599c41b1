/**
 * Deletion at all instances at once, with a blob cache at each (threats.md cases 31 and 32): when a DELETE has been
 * answered no instance answers 200 any more, whatever it has in memory or on its disk; and what comes back is whole.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Image, image, randomPiece } from '../../support/images.ts';
import { type Fleet, startFleet, stopEngines, withFleet } from './fleet.ts';

const ROUNDS = 15;
const NAME = 'fleet/deleted';

await withFleet('deletion in a fleet', () =>
  describe('deletion at three instances with a blob cache each', () => {
    let fleet: Fleet;
    before(async () => {
      fleet = await startFleet({
        config: { storage: { redirect: { enabled: false }, cache: { maxBytes: 64 * 2 ** 20 } } },
      });
    });
    after(async () => {
      await fleet.stop();
      await stopEngines();
    });

    /** What each instance answers to reads of everything that the image is. */
    const statuses = async (made: Image, tag: string): Promise<number[]> => {
      const paths = [
        `/v2/${NAME}/manifests/${made.manifest.digest}`,
        `/v2/${NAME}/manifests/${tag}`,
        ...made.blobs.map(({ digest }) => `/v2/${NAME}/blobs/${digest}`),
      ];
      const asked = fleet.clients.flatMap((one) =>
        paths.flatMap((path) => [one.send('HEAD', path), one.send('GET', path), one.send('GET', path)]),
      );
      return (await Promise.all(asked)).map(({ status }) => status);
    };
    const all = (statuses: readonly number[], wanted: number, what: string): void =>
      assert.deepEqual([...new Set(statuses)], [wanted], what);

    test('after each DELETE no instance answers 200', async () => {
      for (let round = 0; round < ROUNDS; round++) {
        const made = image({ layers: [randomPiece(100), randomPiece(40_000), randomPiece(1_200_000)] });
        const [tag, at] = [`v${round}`, round % 3];
        await fleet.clients[(at + 1) % 3]!.pushImage(NAME, made, tag);
        // Twice: from the store, then from memory or the cache.
        for (const what of ['first', 'again']) all(await statuses(made, tag), 200, `${round} ${what}`);
        const reading = { on: true };
        const seen: { readonly at: number; readonly status: number }[] = [];
        // Readers do not stop for a deletion: an answer to what was asked afterwards is never 200.
        const readers = fleet.clients.map(async (one) => {
          while (reading.on) {
            const asked = performance.now();
            const path = `/v2/${NAME}/manifests/${made.manifest.digest}`;
            seen.push({ at: asked, status: (await one.send('GET', path)).status });
          }
        });
        const one = fleet.clients[at]!;
        assert.equal((await one.send('DELETE', `/v2/${NAME}/manifests/${made.manifest.digest}`)).status, 202);
        const since = performance.now();
        const after = await Promise.all(
          fleet.clients.map((any) => any.send('GET', `/v2/${NAME}/manifests/${made.manifest.digest}`)),
        );
        all(
          after.map(({ status }) => status),
          404,
          `${round}: the manifest`,
        );
        reading.on = false;
        await Promise.all(readers);
        all([404, ...seen.filter((answer) => answer.at > since).map(({ status }) => status)], 404, `${round}: readers`);
        for (const { digest } of made.blobs) {
          assert.equal((await one.send('DELETE', `/v2/${NAME}/blobs/${digest}`)).status, 202);
          const answers = await Promise.all(
            fleet.clients.flatMap((any) =>
              ['HEAD', 'GET'].map((method) => any.send(method, `/v2/${NAME}/blobs/${digest}`)),
            ),
          );
          all(
            answers.map(({ status }) => status),
            404,
            `${round}: ${digest}`,
          );
        }
        all(await statuses(made, tag), 404, `${round}: everything`);
        if (round % 5 !== 0) continue;
        // The same bytes again, at another instance: there for all, to the byte.
        await fleet.clients[(at + 2) % 3]!.pushImage(NAME, made, tag);
        for (const any of fleet.clients) {
          for (const { digest, bytes } of made.blobs) {
            assert.deepEqual(await any.hash(`/v2/${NAME}/blobs/${digest}`), {
              status: 200,
              size: bytes.length,
              digest,
            });
          }
        }
        assert.equal((await one.send('DELETE', `/v2/${NAME}/manifests/${made.manifest.digest}`)).status, 202);
      }
    });

    test('a blob of which one repository was deleted is still there in the other, and only there', async () => {
      const blob = randomPiece(300_000);
      const [one, two, three] = fleet.clients as [Fleet['http'], Fleet['http'], Fleet['http']];
      assert.equal((await one.pushBlob('fleet/left', blob)).status, 201);
      assert.equal((await two.mountBlob('fleet/right', blob.digest, 'fleet/left')).status, 201);
      for (const any of fleet.clients)
        assert.equal((await any.hash(`/v2/fleet/left/blobs/${blob.digest}`)).status, 200);
      assert.equal((await three.send('DELETE', `/v2/fleet/left/blobs/${blob.digest}`)).status, 202);
      for (const any of fleet.clients) {
        assert.equal((await any.send('GET', `/v2/fleet/left/blobs/${blob.digest}`)).status, 404);
        assert.equal((await any.hash(`/v2/fleet/right/blobs/${blob.digest}`)).digest, blob.digest);
      }
    });

    test('an image that was deleted cannot be pushed to by another instance from what it remembers', async () => {
      const made = image({ layers: [randomPiece(50_000)] });
      const [one, two] = fleet.clients as [Fleet['http'], Fleet['http'], Fleet['http']];
      await one.pushImage(NAME, made, 'gone');
      for (const { digest } of made.blobs)
        assert.equal((await two.send('HEAD', `/v2/${NAME}/blobs/${digest}`)).status, 200);
      await two.send('DELETE', `/v2/${NAME}/manifests/${made.manifest.digest}`);
      for (const { digest } of made.blobs)
        assert.equal((await two.send('DELETE', `/v2/${NAME}/blobs/${digest}`)).status, 202);
      assert.equal((await one.pushManifest(NAME, made.manifest, 'gone')).status, 404);
    });
  }),
);
