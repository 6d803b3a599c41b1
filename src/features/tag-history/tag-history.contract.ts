/** Holds, roll back and the reads of history, on either database: what is held stays, through every door. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { CALL, type OpenDatabase, type Small, small, TICKS } from '../../maintenance/gc.testing.ts';
import { digestToBytes } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import type { Digest, RepositoryName, Tag } from '../../oci/names.ts';
import { holdAdd, holdRemove, MAX_HOLDS } from './commands/hold.ts';
import { type DeletedPosition, type DeletedView, readDeleted } from './deleted.ts';
import { digestAfter, digestNow, readHistory, wasAt } from './history.ts';
import { readAllHolds, readHold, readHolds } from './holds.ts';

const A = 'team/a' as RepositoryName;
const B = 'team/b' as RepositoryName;
const V1 = 'v1' as Tag;
const LONG = TICKS.grace + TICKS.undelete + 4;
const FAR = 4_102_444_800_000;

interface Target {
  readonly tag?: Tag;
  readonly digest?: Digest;
  readonly until?: number | null;
}

async function hold({ database }: Small, repository: RepositoryName, target: Target = {}): Promise<string> {
  const uid = randomUUID();
  await database.run(holdAdd, {
    uid,
    repository,
    tag: target.tag ?? null,
    digest: target.digest === undefined ? null : digestToBytes(target.digest),
    reason: 'the auditors are here',
    until: target.until === undefined ? null : target.until,
    actor: 'user:1',
  });
  return uid;
}

function refused(code: string, text = /auditors/): (error: unknown) => boolean {
  return (error) => error instanceof RegistryError && error.code === code && text.test(error.message);
}

/** Time passes until whatever may go has gone. */
async function quiet(here: Small): Promise<void> {
  for (let round = 0; round < 4; round++) {
    await here.tick(LONG);
    await here.spill();
    await here.collect();
  }
}

const deleted = async (here: Small, limit = 100): Promise<DeletedView[]> => {
  const items: DeletedView[] = [];
  let after: DeletedPosition | undefined;
  do {
    const page = await readDeleted(here.database, A, { limit, ...(after === undefined ? {} : { after }) }, 0);
    items.push(...page.items);
    after = page.next;
  } while (after !== undefined);
  return items;
};

/** Registers the tests. */
export function tagHistoryContract(name: string, open: OpenDatabase): void {
  const onSmall = (work: (here: Small) => Promise<void>) => () => small(open, work);
  describe(name, { concurrency: 4 }, () => {
    test(
      'a held manifest is neither deleted nor purged nor collected, until the hold is lifted',
      onSmall(async (here) => {
        const { store } = here;
        const one = await here.pushImage(A, 'one', 'v1');
        const id = await hold(here, A, { digest: one.digest });
        await assert.rejects(store.deleteManifest(CALL, A, one.digest), refused('UNSUPPORTED'));
        await assert.rejects(store.deleteRepository(CALL, A), refused('UNSUPPORTED'));
        // A tag may leave it: that deletes nothing.
        await store.deleteTag(CALL, A, V1);
        await quiet(here);
        await store.getManifest(CALL, A, { digest: one.digest });
        assert.equal(await here.database.run(holdRemove, { uid: id }), true);
        assert.equal(await here.database.run(holdRemove, { uid: id }), false);
        await store.deleteManifest(CALL, A, one.digest);
        // Deleted, it can be held once more: then it outlives its window.
        const again = await hold(here, A, { digest: one.digest });
        await assert.rejects(store.purge(CALL, A, { digest: one.digest }), refused('UNSUPPORTED'));
        await quiet(here);
        assert.deepEqual(
          (await deleted(here)).map(({ kind, digest, ticksLeft, held }) => [kind, digest, ticksLeft, held]),
          [['manifest', one.digest, 0, true]],
        );
        await store.restore(CALL, A, { digest: one.digest });
        for (const blob of one.blobs) await store.resolveBlob(CALL, A, blob);
        await here.database.run(holdRemove, { uid: again });
        await store.deleteManifest(CALL, A, one.digest);
        await quiet(here);
        assert.deepEqual(await deleted(here), []);
        assert.deepEqual(await here.keys(), []);
      }),
    );

    test(
      'a held tag is neither deleted nor moved, by whichever door',
      onSmall(async (here) => {
        const { store } = here;
        const two = await here.pushImage(A, 'two', 'v1');
        const one = await here.pushImage(A, 'one', 'v1');
        const id = await hold(here, A, { tag: V1 });
        await assert.rejects(store.deleteTag(CALL, A, V1), refused('UNSUPPORTED'));
        await assert.rejects(store.deleteManifest(CALL, A, one.digest), refused('UNSUPPORTED'));
        await assert.rejects(store.deleteRepository(CALL, A), refused('UNSUPPORTED'));
        await assert.rejects(here.pushImage(A, 'three', 'v1'), refused('DENIED'));
        await assert.rejects(store.restore(CALL, A, { tag: V1, digest: two.digest }), refused('DENIED'));
        // The same again, and other tags, are free.
        await here.pushImage(A, 'one', 'v1');
        await here.pushImage(A, 'three', 'v2');
        await store.restore(CALL, A, { tag: V1, digest: one.digest });
        assert.equal(await digestNow(here.database, A, V1), one.digest);
        await here.database.run(holdRemove, { uid: id });
        await store.restore(CALL, A, { tag: V1, digest: two.digest });
        assert.equal(await digestNow(here.database, A, V1), two.digest);
      }),
    );

    test(
      'a deleted tag that is held keeps itself and what it named beyond the window',
      onSmall(async (here) => {
        const { store } = here;
        const one = await here.pushImage(A, 'one', 'v1');
        await store.deleteManifest(CALL, A, one.digest);
        const id = await hold(here, A, { tag: V1 });
        await assert.rejects(store.purge(CALL, A, { tag: V1 }), refused('UNSUPPORTED'));
        // Its tags would go with it.
        await assert.rejects(store.purge(CALL, A, { digest: one.digest }), refused('UNSUPPORTED'));
        await quiet(here);
        await store.restore(CALL, A, { tag: V1 });
        for (const blob of one.blobs) await store.resolveBlob(CALL, A, blob);
        await here.database.run(holdRemove, { uid: id });
        await store.deleteManifest(CALL, A, one.digest);
        await quiet(here);
        await assert.rejects(store.restore(CALL, A, { tag: V1 }), refused('MANIFEST_UNKNOWN', /./));
      }),
    );

    test(
      'nothing in a held repository is deleted, purged or collected; pushes go on',
      onSmall(async (here) => {
        const { store } = here;
        const old = await here.pushImage(A, 'old', 'old');
        await store.deleteManifest(CALL, A, old.digest);
        const one = await here.pushImage(A, 'one', 'v1');
        const loose = await here.pushBlob(A, 'nobody names this');
        await hold(here, A);
        await assert.rejects(store.deleteManifest(CALL, A, one.digest), refused('UNSUPPORTED'));
        await assert.rejects(store.deleteTag(CALL, A, V1), refused('UNSUPPORTED'));
        await assert.rejects(store.deleteBlob(CALL, A, loose), refused('UNSUPPORTED'));
        await assert.rejects(store.purge(CALL, A, { digest: old.digest }), refused('UNSUPPORTED'));
        await assert.rejects(store.purge(CALL, A, { tag: 'old' as Tag }), refused('UNSUPPORTED'));
        await assert.rejects(store.deleteRepository(CALL, A), refused('UNSUPPORTED'));
        await quiet(here);
        await store.resolveBlob(CALL, A, loose);
        await store.restore(CALL, A, { tag: 'old' as Tag });
        await here.pushImage(A, 'two', 'v1');
        // Another repository is nobody's business.
        await here.pushImage(B, 'one', 'v1');
        while (!(await store.deleteRepository(CALL, B)).done);
      }),
    );

    test(
      'a hold that has ended holds nothing',
      onSmall(async (here) => {
        const { store } = here;
        const one = await here.pushImage(A, 'one', 'v1');
        await here.pushImage(A, 'two', 'v2');
        for (const target of [{}, { tag: V1 }, { digest: one.digest }]) await hold(here, A, { ...target, until: 1 });
        assert.deepEqual(
          (await readHolds(here.database, A, { limit: 10 }, 2)).items.map(({ active }) => active),
          [false, false, false],
        );
        await here.pushImage(A, 'two', 'v1');
        await store.deleteTag(CALL, A, V1);
        await store.deleteManifest(CALL, A, one.digest);
        await store.purge(CALL, A, { digest: one.digest });
        while (!(await store.deleteRepository(CALL, A)).done);
        await quiet(here);
        assert.deepEqual(await here.keys(), []);
      }),
    );

    test(
      'a repository with a hold in it loses nothing to its deletion',
      onSmall(async (here) => {
        const { store } = here;
        const many = [];
        // More than one chunk of a deletion takes; what is held comes last.
        for (let index = 0; index < 102; index++) many.push(await here.pushImage(A, `image ${index}`, `t${index}`));
        const ids = [await hold(here, A, { tag: 't101' as Tag }), await hold(here, A, { digest: many[101]!.digest })];
        for (const id of ids) {
          await assert.rejects(store.deleteRepository(CALL, A), refused('UNSUPPORTED'));
          for (const { digest } of many) await store.resolveManifest(CALL, A, { digest });
          await here.database.run(holdRemove, { uid: id });
        }
        for (const { digest } of many.slice(1)) await store.deleteManifest(CALL, A, digest);
        const last = await hold(here, A);
        await assert.rejects(store.deleteRepository(CALL, A), refused('UNSUPPORTED'));
        await here.database.run(holdRemove, { uid: last });
        while (!(await store.deleteRepository(CALL, A)).done);
      }),
    );

    test(
      'only what is there, or deleted and not yet gone, is held; and not without end',
      onSmall(async (here) => {
        const one = await here.pushImage(A, 'one', 'v1');
        await assert.rejects(hold(here, B), refused('NAME_UNKNOWN', /./));
        await assert.rejects(hold(here, A, { tag: 'never' as Tag }), refused('MANIFEST_UNKNOWN', /./));
        await assert.rejects(hold(here, A, { digest: one.blobs[0]! }), refused('MANIFEST_UNKNOWN', /./));
        await here.store.deleteTag(CALL, A, V1);
        const id = await hold(here, A, { tag: V1, until: FAR });
        const shown = await readHold(here.database, id, 5);
        assert.deepEqual(
          [shown?.repository, shown?.tag, shown?.digest, shown?.reason, shown?.actor, shown?.until, shown?.active],
          [A, V1, undefined, 'the auditors are here', { id: 'user:1' }, FAR, true],
        );
        assert.equal(await readHold(here.database, randomUUID(), 5), undefined);
        await here.sql(
          `insert into hold (uid, repository_id, reason, actor, created_at)
           with recursive n(i) as (select 1 union all select i + 1 from n where i < ${MAX_HOLDS})
           select 'many-' || n.i, r.id, 'x', 'y', 1 from n, repository r where r.name = ?`,
          A,
        );
        await assert.rejects(hold(here, A), refused('UNSUPPORTED', /at most/));
      }),
    );

    test(
      'holds are listed in pages, those that may be seen',
      onSmall(async (here) => {
        await here.pushImage(A, 'one', 'v1');
        await here.pushImage(B, 'one', 'v1');
        const ids: string[] = [];
        for (let index = 0; index < 3; index++) {
          ids.push(await hold(here, A));
          await hold(here, B);
        }
        const onlyA = async (): Promise<Set<RepositoryName>> => new Set([A]);
        const listed: string[] = [];
        let after: number | undefined;
        do {
          const page = await readAllHolds(
            here.database,
            onlyA,
            { limit: 2, ...(after === undefined ? {} : { after }) },
            0,
          );
          listed.push(...page.items.map((one) => one.id));
          after = page.next;
        } while (after !== undefined);
        assert.deepEqual(listed, ids);
        const first = await readHolds(here.database, A, { limit: 2 }, 0);
        const second = await readHolds(here.database, A, { limit: 2, after: first.next! }, 0);
        assert.deepEqual(
          [...first.items, ...second.items].map((one) => one.id),
          ids,
        );
        assert.equal(second.next, undefined);
      }),
    );

    test(
      'history: every move, in order, with who and from where',
      onSmall(async (here) => {
        const { store, database } = here;
        const one = await here.pushImage(A, 'one', 'v1');
        const two = await here.pushImage(A, 'two', 'v1');
        await here.pushImage(A, 'two', 'other');
        await store.restore({ ...CALL, requestId: 'back' }, A, { tag: V1, digest: one.digest });
        await store.deleteTag(CALL, A, V1);
        await store.restore(CALL, A, { tag: V1 });
        // What moves nothing leaves no line.
        await store.restore(CALL, A, { tag: V1, digest: one.digest });
        await here.pushImage(A, 'one', 'v1');
        const all = await readHistory(database, A, V1, { limit: 10 });
        assert.deepEqual(
          all.items.map(({ kind, from, to }) => [kind, from, to]),
          [
            ['restored', undefined, one.digest],
            ['deleted', one.digest, undefined],
            ['rolled-back', two.digest, one.digest],
            ['moved', one.digest, two.digest],
            ['moved', undefined, one.digest],
          ],
        );
        assert.equal(all.next, undefined);
        assert.deepEqual(all.items[2]?.actor, { id: 'user:1' });
        assert.deepEqual(all.items[2]?.origin, { requestId: 'back' });
        const first = await readHistory(database, A, V1, { limit: 3 });
        const second = await readHistory(database, A, V1, { limit: 3, after: first.next! });
        assert.deepEqual([...first.items, ...second.items], all.items);
        assert.equal((await readHistory(database, A, undefined, { limit: 10 })).items.length, 6);
        const [restored, gone, back] = all.items;
        assert.equal(await digestAfter(database, A, V1, back!.sequence), one.digest);
        assert.equal(await digestAfter(database, A, V1, gone!.sequence), null);
        assert.equal(await digestAfter(database, A, 'other' as Tag, restored!.sequence), undefined);
        assert.equal(await digestAfter(database, B, V1, back!.sequence), undefined);
        assert.equal(await wasAt(database, A, V1, two.digest), true);
        assert.equal(await wasAt(database, A, 'other' as Tag, one.digest), false);
      }),
    );

    test(
      'an account that is known gives its name',
      onSmall(async (here) => {
        await here.sql(
          "insert into account (uid, name, password_hash, created_at) values ('1', 'ann', 'x', 1), ('2', 'bob', 'x', 1)",
        );
        await here.pushImage(A, 'one', 'v1');
        assert.deepEqual((await readHistory(here.database, A, V1, { limit: 1 })).items[0]?.actor, {
          id: 'user:1',
          name: 'ann',
        });
        const id = await hold(here, A);
        assert.deepEqual((await readHold(here.database, id, 0))?.actor, { id: 'user:1', name: 'ann' });
      }),
    );

    test(
      'what was deleted is listed with the time it has left, in pages',
      onSmall(async (here) => {
        const { store } = here;
        const images = [];
        for (const text of ['one', 'two', 'three']) images.push(await here.pushImage(A, text, text));
        await store.deleteTag(CALL, A, 'one' as Tag);
        await here.tick(3);
        await store.deleteManifest(CALL, A, images[1]!.digest);
        await store.deleteManifest(CALL, A, images[2]!.digest);
        const all = await deleted(here);
        assert.deepEqual(
          all.map(({ kind, tag }) => [kind, tag]),
          [
            ['tag', 'one'],
            ['tag', 'two'],
            ['tag', 'three'],
            ['manifest', undefined],
            ['manifest', undefined],
          ],
        );
        assert.deepEqual(
          all.map(({ ticksLeft }) => ticksLeft),
          [TICKS.undelete - 2, ...Array.from({ length: 4 }, () => TICKS.undelete + 1)],
        );
        assert.deepEqual(
          all.slice(3).map(({ digest }) => digest),
          [images[1]!.digest, images[2]!.digest].sort(),
        );
        for (const limit of [1, 2, 3, 4, 5]) assert.deepEqual(await deleted(here, limit), all);
        await here.tick(TICKS.undelete - 2);
        await here.collect();
        assert.equal(
          (await deleted(here)).some(({ tag }) => tag === 'one'),
          false,
        );
        await store.restore(CALL, A, { tag: 'two' as Tag });
        assert.equal((await deleted(here)).length, 2);
      }),
    );

    test(
      'a roll back at the same time as a deletion ends with one of the two',
      onSmall(async (here) => {
        const { store, database } = here;
        for (let round = 0; round < 5; round++) {
          const one = await here.pushImage(A, `one ${round}`, 'v1');
          await here.pushImage(A, `two ${round}`, 'v1');
          await Promise.allSettled([
            store.restore(CALL, A, { tag: V1, digest: one.digest }),
            store.deleteManifest(CALL, A, one.digest),
          ]);
          const now = await digestNow(database, A, V1);
          // Wherever the tag is, it can be pulled; nowhere is fine too.
          if (now !== undefined) await store.getManifest(CALL, A, { tag: V1 });
        }
      }),
    );
  });
}
