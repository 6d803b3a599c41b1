/** What the mark in storage and a recovery promise, on any database. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { systemClock } from '../kit/clock.ts';
import { noMetrics, silentLog } from '../kit/log.ts';
import { parseBlobKey } from '../oci/blob-key.ts';
import { digestToBytes } from '../oci/digest.ts';
import type { Tag } from '../oci/names.ts';
import { memoryStorage } from '../storage/memory.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { CALL, type OpenDatabase } from './gc.testing.ts';
import { collector } from './gc.ts';
import { readJournal } from './gc-journal.ts';
import { mirrorRepository } from './mirror.ts';
import { type RecoverResult, recover } from './recover.ts';
import { highestEpoch, isOlder, type Mark, OlderError, openMarker, refuseOlder } from './recover-mark.ts';
import { type Installation, installed, picture, sound } from './reindex.testing.ts';
import { IMAGES, INDEXES, name, pushIndex, pushPlain } from './reindex-histories.contract.ts';
import { refuseHalfRestored } from './restore-mark.ts';

const clock = systemClock;
const { signal } = new AbortController();

function recovering({ database, storage }: Installation, merge = true): Promise<RecoverResult> {
  return recover({ database, storage, clock, merge, signal, onProgress: () => undefined });
}

async function marksOf(storage: BlobStorage): Promise<Mark[]> {
  const marks: Mark[] = [];
  for await (const record of storage.records.list('mark/'))
    marks.push(JSON.parse(Buffer.from((await storage.records.get(record))!).toString()) as Mark);
  return marks;
}

/** Puts the mark of a database back by so many, as a snapshot would. */
async function putBack({ sql }: Installation, marks: number, nonce = 'before'): Promise<void> {
  await sql("update lease set fence = fence - ?, owner = ? where name = 'storage.mark'", marks, nonce);
}

/**
 * Over one storage a database that works (`newer`) and one as it was a while before (`older`): rebuilt from storage then,
 * with the names that the other one has. `meanwhile` is done in the newer one.
 */
function beside(
  open: OpenDatabase,
  parts: {
    readonly before: (to: Installation) => Promise<unknown>;
    readonly meanwhile: (newer: Installation, older: Installation) => Promise<unknown>;
    readonly afterwards: (older: Installation, newer: Installation) => Promise<unknown>;
  },
): Promise<void> {
  const storage = memoryStorage();
  return installed(open, storage, async (newer) => {
    await parts.before(newer);
    await newer.drain();
    return installed(open, storage, async (older) => {
      await older.reindex();
      const [here] = await newer.rows<{ uid: string; epoch: number }>('select uid, epoch from installation');
      await older.sql('update installation set uid = ?, epoch = ?', here!.uid, here!.epoch);
      const marker = openMarker({ ...newer, clock });
      await marker.make();
      await parts.meanwhile(newer, older);
      await marker.make();
      await parts.afterwards(older, newer);
    });
  });
}

/** Whatever the one answers, the other answers too; its lists may be longer. */
function assertHas(all: Record<string, unknown>, some: Record<string, unknown>): void {
  for (const [what, value] of Object.entries(some)) {
    if (value === undefined) continue;
    const items = (value as { items?: readonly unknown[] }).items;
    if (items === undefined) {
      assert.deepEqual(all[what], value, what);
      continue;
    }
    const there = (all[what] as { items?: readonly unknown[] } | undefined)?.items ?? [];
    for (const item of items)
      assert.ok(
        there.some((one) => JSON.stringify(one) === JSON.stringify(item)),
        what,
      );
  }
}

async function journalOf(storage: BlobStorage): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of readJournal(storage.records)) keys.push(key);
  return keys;
}

const repositories = ['a', 'a/b', 'c'];
const tags = ['v1', 'v2', 'latest', `sha256-${IMAGES[1]![0].digest.slice(7)}`];
type Step = (to: Installation) => Promise<unknown>;
const repository = fc.constantFrom(...repositories);
const someTags = fc.uniqueArray(fc.constantFrom(...tags), { maxLength: 2 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.tuple(repository, fc.nat(6), someTags).map(
      ([r, n, t]): Step =>
        (to) =>
          pushPlain(to, r, n, ...t),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(repository, fc.nat(4), someTags).map(
      ([r, n, t]): Step =>
        (to) =>
          pushIndex(to, r, n, ...t),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(repository, fc.constantFrom(...[...IMAGES, ...INDEXES].map(([one]) => one.digest))).map(
      ([r, d]): Step =>
        (to) =>
          to.store.deleteManifest(CALL, name(r), d),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(repository, fc.constantFrom(...tags)).map(
      ([r, t]): Step =>
        (to) =>
          to.store.deleteTag(CALL, name(r), t as Tag),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.constant<Step>(async (to) => {
      await to.drain();
      await to.tick(20);
      await to.collect();
      await to.tick(20);
      await to.collect();
    }),
  },
);
const history = fc.array(step, { minLength: 3, maxLength: 14 });

/** What is not there to be deleted is refused; nothing else may fail. */
async function play(steps: readonly Step[], to: Installation): Promise<void> {
  for (const one of steps)
    await one(to).catch((error: { code?: string }) => {
      if (error.code !== 'MANIFEST_UNKNOWN' && error.code !== 'UNSUPPORTED' && error.code !== 'NAME_UNKNOWN')
        throw error;
    });
}

/** Registers the tests. */
export function recoverContract(title: string, open: OpenDatabase, histories: number): void {
  describe(title, () => {
    test('a database is never older than its marks, whoever makes them at once', () =>
      installed(open, memoryStorage(), async (here) => {
        const markers = [1, 2, 3].map(() => openMarker({ ...here, clock }));
        await refuseOlder(here);
        await Promise.all(
          markers.map(async (marker) => {
            for (let count = 0; count < 4; count++) {
              await marker.make();
              await marker.check();
              await refuseOlder(here);
            }
          }),
        );
        const [row] = await here.rows<{ fence: number }>("select fence from lease where name = 'storage.mark'");
        assert.equal(row?.fence, 12);
        // One that is made just while storage is read.
        const { records } = here.storage;
        const between = {
          ...records,
          async *list(prefix: string) {
            await markers[0]!.make();
            yield* records.list(prefix);
          },
        };
        await openMarker({ ...here, storage: { records: between }, clock }).check();
        await refuseOlder({ ...here, storage: { records: between } });
        assert.equal(Math.max(...(await marksOf(here.storage)).map(({ number }) => number)), 14);
      }));

    test('one that was put back is refused, and never catches up', () =>
      installed(open, memoryStorage(), async (here) => {
        const marker = openMarker({ ...here, clock });
        for (let count = 0; count < 3; count++) await marker.make();
        const [was] = await here.rows<{ owner: string }>("select owner from lease where name = 'storage.mark'");
        await putBack(here, 1);
        await here.tick(50);
        for (let count = 0; count < 5; count++) {
          await assert.rejects(marker.make(), OlderError);
          await assert.rejects(openMarker({ ...here, clock }).check(), OlderError);
        }
        await assert.rejects(refuseOlder(here), /longshore recover/);
        // As many marks, but others: another copy went on.
        await putBack(here, -1);
        await assert.rejects(refuseOlder(here), OlderError);
        await putBack(here, 0, was!.owner);
        await refuseOlder(here);
        await marker.make();
        // An epoch that storage has not seen begins anew; one that it has left behind does not come back.
        await here.sql('update installation set epoch = epoch + 1');
        await marker.make();
        await here.sql('update installation set epoch = epoch - 1');
        await assert.rejects(marker.check(), OlderError);
      }));

    test('one whose storage was taken over by another is refused; a new one, and records that are no marks, are not', () =>
      installed(open, memoryStorage(), async (here) => {
        const { storage } = here;
        const mark: Mark = { uid: 'other', epoch: 9, tick: 1, number: 1, nonce: 'x', at: 1 };
        await storage.records.put('mark/other', Buffer.from(JSON.stringify(mark)));
        await storage.records.put('mark/broken', Buffer.from('{"uid":'));
        await storage.records.put('mark/wrong', Buffer.from(JSON.stringify({ ...mark, at: 1e300 })));
        await storage.records.put('mark/long', Buffer.alloc(5000));
        await refuseOlder(here);
        assert.equal(await highestEpoch(storage.records), 9);
        const marker = openMarker({ ...here, clock });
        await marker.make();
        await assert.rejects(marker.check(), /belongs to a newer database/);
        await storage.records.delete('mark/other');
        await marker.make();
      }));

    test('no bytes go unless storage has a mark of that tick; none at all from one that was put back', () =>
      installed(open, memoryStorage(), async (here) => {
        const { database, storage } = here;
        const { beforeDelete } = openMarker({ ...here, clock });
        const settings = { deleteAfterTicks: 2, sweepTicks: 1_000_000, haltShare: 1 };
        const collecting = collector({
          ...{ database, storage, clock, log: silentLog, metrics: noMetrics, settings },
          beforeDelete,
        });
        // Until a dead key waits for no more than its next step: on PostgreSQL a step leaves what is locked to the next one.
        const garbage = async (text: string): Promise<void> => {
          await here.pushBlob('a', Buffer.from(text.padEnd(50_000, '.')));
          await here.tick(60);
          const waits = 'select n from dead_key where confirmed = 0';
          for (let tried = 0; tried < 50 && (await here.rows(waits)).length === 0; tried++)
            await collecting.step(signal);
          await here.tick(3);
        };
        await garbage('one');
        assert.equal((await collecting.step(signal)).deleted, 1);
        const [row] = await here.rows<{ tick: number }>('select tick from gc_clock');
        assert.ok((await marksOf(storage)).some(({ tick }) => tick === row?.tick));
        await garbage('two');
        await putBack(here, 1);
        await assert.rejects(collecting.step(signal), OlderError);
        const left: string[] = [];
        for await (const { key } of storage.list()) left.push(key);
        assert.equal(left.length, 1);
      }));

    test('what the newer one had is back, tags as they were last; what it deleted stays deleted where its bytes are gone', () =>
      beside(open, {
        before: async (to) => {
          await pushIndex(to, 'a', 0, 'v1', 'latest');
          await pushPlain(to, 'a', 2, 'doomed');
          await pushPlain(to, 'b', 1, 'b1');
        },
        async meanwhile(newer, older) {
          await newer.store.deleteManifest(CALL, name('a'), IMAGES[2]![0].digest);
          await newer.tick(30);
          await newer.collect();
          await newer.tick(30);
          await newer.collect();
          await pushPlain(newer, 'c', 3, 'c1');
          await pushPlain(newer, 'a', 4, 'latest');
          await newer.drain();
          // Known here as deleted a moment ago: later than the mirror says of the tag, sooner than it says of the manifest.
          await older.store.deleteManifest(CALL, name('b'), IMAGES[1]![0].digest);
        },
        async afterwards(older, newer) {
          const wanted = await picture(newer, ['a', 'c']);
          assert.ok(await isOlder({ ...older }));
          const done = await recovering(older);
          assert.ok(done.wasOlder && !done.resumed && done.whole, JSON.stringify(done));
          const { merged } = done;
          assert.deepEqual([merged?.newRepositories, merged?.manifests, merged?.revived, merged?.tags], [1, 2, 1, 2]);
          assert.deepEqual([done.buried, done.buriedNames], [1, [`a@${IMAGES[2]![0].digest}`]]);
          const found = await picture(older, ['a', 'c']);
          assert.deepEqual({ ...found, catalog: undefined }, { ...wanted, catalog: undefined });
          await sound(older);
          await refuseOlder(older);
          // Who still works on the other copy is behind now.
          await assert.rejects(openMarker({ ...newer, clock }).beforeDelete({ epoch: 1, tick: 1 }), OlderError);
          const dead = await journalOf(older.storage);
          assert.ok(dead.length > 0);
          for (const key of dead) {
            const { digest, n } = parseBlobKey(key as never)!;
            assert.deepEqual(
              await older.rows('select digest from blob where digest = ? and n = ?', digestToBytes(digest), n),
              [],
            );
          }
          // The same bytes again: under a key that never died.
          await pushPlain(older, 'a', 2, 'again');
          await older.drain();
          for (let round = 0; round < 3; round++) {
            await older.tick(60);
            await older.collect();
          }
          await sound(older, true);
          assertHas(await picture(older, ['a', 'c']), { ...wanted, catalog: undefined });
          const again = await recovering(older);
          assert.deepEqual([again.wasOlder, again.merged?.manifests, again.buried, again.whole], [false, 0, 0, true]);
        },
      }));

    test('bytes that never came to storage are told; without merging nothing comes back', () =>
      beside(open, {
        before: (to) => pushPlain(to, 'a', 1, 'v1'),
        async meanwhile(newer) {
          await pushPlain(newer, 'a', 2, 'v2');
          await mirrorRepository(newer, name('a'));
        },
        async afterwards(older) {
          const apart = await recovering(older, false);
          assert.equal(apart.merged, undefined);
          assert.deepEqual(await older.rows("select name from tag where gone = 0 and name = 'v2'"), []);
          const done = await recovering(older);
          assert.ok(!done.whole && done.problemCount > 0);
          assert.match(done.problems.map(({ what }) => what).join('\n'), /not in storage/);
          assert.equal((await older.rows("select name from tag where gone = 0 and name = 'v1'")).length, 1);
          await sound(older);
        },
      }));

    test('until it has ended nothing is served; two runs at once: one ends the other', () =>
      installed(open, memoryStorage(), async (here) => {
        await pushPlain(here, 'a', 1, 'v1');
        const aborted = AbortSignal.abort(new Error('enough'));
        const { database, storage } = here;
        const options = { database, storage, clock, merge: true, onProgress: () => undefined };
        await assert.rejects(recover({ ...options, signal: aborted }), /enough/);
        await assert.rejects(refuseHalfRestored(database), /recovery of this database has not ended/);
        let other: Promise<RecoverResult> | undefined;
        await assert.rejects(
          recover({
            ...options,
            signal,
            onProgress: ({ phase }) => {
              if (phase === 'journal') other ??= recovering(here);
            },
          }).then(async (done) => {
            await other;
            return done;
          }),
          /taken over|works on this database|kept making/,
        );
        assert.ok((await other)?.resumed);
        await refuseHalfRestored(database);
        await refuseOlder(here);
        await here.drain();
        await sound(here);
      }));

    test('after any history, what the newer one answers the recovered one answers', () =>
      fc.assert(
        fc.asyncProperty(history, history, (first, second) =>
          beside(open, {
            before: (to) => play(first, to),
            async meanwhile(newer) {
              await play(second, newer);
              await newer.drain();
            },
            async afterwards(older, newer) {
              const wanted = await picture(newer, repositories);
              const done = await recovering(older);
              assert.ok(done.whole, JSON.stringify(done));
              await sound(older);
              assertHas(await picture(older, repositories), wanted);
              for (let round = 0; round < 3; round++) {
                await older.tick(60);
                await older.collect();
              }
              // What the newer one put under a key of its own, and gave up, the older one never knew.
              await sound(older, true, false);
              assertHas(await picture(older, repositories), wanted);
            },
          }),
        ),
        { numRuns: histories },
      ));
  });
}
