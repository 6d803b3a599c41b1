/** What the collector does, on either database. The order of everything is the matter of `test/interleaving`. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { blobKey } from '../oci/blob-key.ts';
import { digestOf, digestToBytes } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { RepositoryName } from '../oci/names.ts';
import { CALL, litter, type OpenDatabase, type Small, small, TICKS } from './gc.testing.ts';
import { gcExplain } from './gc-explain.ts';
import { readJournal } from './gc-journal.ts';
import { gcPreview, gcStatus } from './gc-status.ts';

const A = 'a' as RepositoryName;
const B = 'b' as RepositoryName;
/** Longer than everything that is waited for. */
const LONG = TICKS.grace + TICKS.undelete + 4;

function code(expected: string): (error: unknown) => boolean {
  return (error) => error instanceof RegistryError && error.code === expected;
}

/** Time passes and everything has its turn, until nothing changes any more. */
async function quiet(here: Small): Promise<void> {
  for (let round = 0; round < 6; round++) {
    await here.spill();
    await here.expire();
    await here.collect();
    await here.tick(LONG);
  }
}

/** Registers the tests. `litters`: how many blobs one of them throws away. */
export function collectorContract(name: string, open: OpenDatabase, litters: number): void {
  const onSmall = (work: (here: Small) => Promise<void>) => () => small(open, work);
  describe(name, { concurrency: 4 }, () => {
    test(
      `${litters} blobs that nothing refers to go, and nothing else`,
      onSmall(async (here) => {
        const kept = await here.pushImage(A, 'kept', 'v1');
        await here.spill();
        await litter(here, A, litters);
        await here.tick(TICKS.grace);
        const done = await here.collect();
        assert.deepEqual([done.unlinked, done.condemned], [litters, litters]);
        assert.equal(done.deleted, 0);
        await here.tick(2);
        const after = await here.collect();
        assert.deepEqual([after.deleted, after.bytes], [litters, litters * 6]);
        const named = [kept.digest, ...kept.blobs].map((digest) => blobKey(digest, 0) as string);
        assert.deepEqual(await here.keys(), named.sort());
        let journalled = 0;
        for await (const _ of readJournal(here.storage.records)) journalled++;
        assert.equal(journalled, litters);
      }),
    );

    test(
      'after quiet and enough ticks there is exactly what can be reached',
      onSmall(async (here) => {
        const one = await here.pushImage(A, 'one', 'v1');
        const two = await here.pushImage(A, 'two');
        await here.pushImage(B, 'one');
        const child = await here.pushImage(B, 'child');
        const index = await here.pushIndex(B, [child.digest]);
        await here.pushBlob(B, 'nobody names this');
        await here.pushBlob('abandoned', 'nor that');
        await here.store.deleteManifest(CALL, A, two.digest);
        await here.store.deleteManifest(CALL, B, index);
        await here.store.deleteManifest(CALL, B, child.digest);
        await quiet(here);
        const left = [one.digest, ...one.blobs].map((digest) => blobKey(digest, 0) as string);
        assert.deepEqual(await here.keys(), left.sort());
        for (const table of ['gc_queue', 'upload', 'orphan'])
          assert.deepEqual(await here.rows(`select * from ${table}`), [], table);
        assert.deepEqual(await here.rows('select 1 from dead_key where confirmed = 0'), []);
        assert.deepEqual(await here.rows('select 1 from manifest where deleted_tick > 0'), []);
        assert.deepEqual(await here.rows<{ name: string }>('select name from repository order by name'), [
          { name: 'a' },
          { name: 'b' },
        ]);
        const [usage] = await here.rows<{ real: number; said: number }>(
          `select (select sum(b.size) from link l join blob b on b.digest = l.digest) + (select sum(size) from manifest) as real,
             (select sum(bytes) from usage_delta) as said`,
        );
        assert.equal(Number(usage?.said), Number(usage?.real));
      }),
    );

    test(
      'an undelete within the window brings back an image that can be pulled, though its links are gone',
      onSmall(async (here) => {
        const image = await here.pushImage(A, 'image', 'v1');
        await here.pushImage(A, 'other');
        await here.spill();
        await here.tick(TICKS.grace);
        await here.store.deleteManifest(CALL, A, image.digest);
        await here.tick(TICKS.grace + 1);
        assert.equal((await here.collect()).unlinked, 2);
        await assert.rejects(here.store.resolveBlob(CALL, A, image.blobs[0]!), code('BLOB_UNKNOWN'));
        await here.store.restore(CALL, A, { tag: 'v1' as never });
        await here.tick(1);
        await here.collect();
        const { descriptor } = await here.store.getManifest(CALL, A, { tag: 'v1' as never });
        assert.equal(descriptor.digest, image.digest);
        for (const digest of image.blobs) {
          const content = await here.store.getBlob(CALL, A, digest);
          assert.equal(digestOf(content.bytes ?? new Uint8Array()), digest);
        }
        await here.tick(LONG);
        await here.collect();
        assert.equal((await here.store.resolveBlob(CALL, A, image.blobs[1]!)).digest, image.blobs[1]);
      }),
    );

    test(
      'beyond the window a deleted image cannot come back',
      onSmall(async (here) => {
        const image = await here.pushImage(A, 'image', 'v1');
        await here.store.deleteManifest(CALL, A, image.digest);
        await here.tick(TICKS.undelete);
        await here.collect();
        assert.equal((await here.rows('select 1 from manifest')).length, 1);
        await here.tick(1);
        assert.equal((await here.collect()).purged, 2);
        await assert.rejects(here.store.restore(CALL, A, { digest: image.digest }), code('MANIFEST_UNKNOWN'));
      }),
    );

    test(
      'what is held stays until the hold ends',
      onSmall(async (here) => {
        const blob = await here.pushBlob(A, 'held blob');
        const image = await here.pushImage(B, 'held image', 'v1');
        await here.store.deleteTag(CALL, B, 'v1' as never);
        await here.store.deleteManifest(CALL, B, image.digest);
        const [b] = await here.rows<{ id: number }>("select id from repository where name = 'b'");
        const hold = `insert into hold (uid, repository_id, digest, reason, actor, until_at, created_at)
          values (?, ?, ?, 'audit', 'ann', ?, 0)`;
        await here.sql(hold, 'one', null, digestToBytes(blob), null);
        await here.sql(hold, 'two', b?.id ?? 0, null, null);
        await quiet(here);
        assert.deepEqual(await here.rows('select 1 from dead_key'), []);
        assert.equal((await here.rows('select 1 from manifest where deleted_tick > 0')).length, 1);
        assert.deepEqual((await gcExplain(here.database, blob, 0)).holds, [{ reason: 'audit', actor: 'ann' }]);
        await here.sql("update hold set until_at = 1 where uid = 'two'");
        await here.sql("delete from hold where uid = 'one'");
        await quiet(here);
        assert.deepEqual(await here.keys(), []);
      }),
    );

    test(
      'a link of a repository that was pushed to stays for a grace more',
      onSmall(async (here) => {
        const blob = await here.pushBlob(A, 'the first layer of a slow push');
        await here.tick(TICKS.grace - 1);
        await here.pushBlob(A, 'the second one');
        await here.tick(1);
        assert.equal((await here.collect()).unlinked, 0);
        assert.equal((await here.store.resolveBlob(CALL, A, blob)).digest, blob);
        await here.tick(TICKS.grace);
        assert.equal((await here.collect()).unlinked, 2);
      }),
    );

    test(
      'what was deleted goes though its repository is pushed to all the time',
      onSmall(async (here) => {
        const image = await here.pushImage(A, 'image', 'v1');
        await here.spill();
        await here.store.deleteManifest(CALL, A, image.digest);
        // HEAD puts the review off until the undelete window is nearly over.
        await here.tick(TICKS.grace - 1);
        for (const digest of image.blobs) await here.store.resolveBlob(CALL, A, digest);
        for (let tick = 0; tick < LONG; tick++) {
          await here.pushBlob(A, 'again and again');
          await here.tick(1);
          await here.collect();
        }
        for (const digest of [image.digest, ...image.blobs])
          assert.ok(!(await here.keys()).includes(blobKey(digest, 0)), digest);
        assert.deepEqual(await here.rows('select 1 from manifest'), []);
      }),
    );

    test(
      'the bytes that a backup needs stay while it runs',
      onSmall(async (here) => {
        const blob = await here.pushBlob(A, 'in the snapshot');
        await here.spill();
        await here.sql(
          "insert into lease (name, kind, owner, fence, since_tick, due_tick) values ('backup', 'backup', 'x', 1, 1, 40)",
        );
        await here.tick(TICKS.grace);
        assert.equal((await here.collect()).condemned, 1);
        await here.tick(10);
        assert.equal((await here.collect()).deleted, 0);
        assert.deepEqual(await here.keys(), [blobKey(blob, 0)]);
        await here.tick(40);
        assert.equal((await here.collect()).deleted, 1);
        assert.deepEqual(await here.keys(), []);
      }),
    );

    test(
      'a restore between the journal and the deletion stops the deletion',
      onSmall(async (here) => {
        await here.pushBlob(A, 'gone');
        await here.spill();
        await here.tick(TICKS.grace);
        await here.collect();
        await here.tick(2);
        const { records } = here.storage;
        const { put } = records;
        records.put = async (name, bytes) => {
          await put(name, bytes);
          await here.sql('update installation set epoch = epoch + 1 where id = 1');
        };
        assert.equal((await here.collect()).deleted, 0);
        records.put = put;
        assert.equal((await here.collect()).deleted, 1);
      }),
    );

    test(
      'bytes that could not be deleted are tried again; a key that was dead once is not used again',
      onSmall(async (here) => {
        const blob = await here.pushBlob(A, 'stubborn');
        await here.spill();
        await here.tick(TICKS.grace);
        await here.collect();
        await here.tick(2);
        const { storage } = here;
        const { delete: remove, deleteMany: removeMany } = storage;
        storage.delete = async () => {
          throw new Error('the disk does not answer');
        };
        storage.deleteMany = storage.delete as never;
        assert.equal((await here.collect()).deleted, 0);
        storage.deleteMany = async () => [];
        assert.equal((await here.collect()).deleted, 0);
        Object.assign(storage, { delete: remove, deleteMany: removeMany });
        assert.equal((await here.collect()).deleted, 1);
        await here.pushBlob(A, 'stubborn');
        await here.spill();
        assert.deepEqual(await here.keys(), [blobKey(blob, 1)]);
      }),
    );

    test(
      'the sweep finds bytes that no row knows, and only those',
      onSmall(async (here) => {
        const image = await here.pushImage(A, 'image', 'v1');
        await here.spill();
        const stray = digestOf(Buffer.from('stray'));
        const higher = blobKey(image.blobs[0]!, 3);
        await here.storage.put(blobKey(stray, 0), Buffer.from('stray'));
        await here.storage.put(higher, Buffer.from('from a restored database'));
        const sweeping = here.another({ sweepTicks: 1 });
        assert.equal((await here.collect(sweeping)).orphans, 0);
        assert.deepEqual(await here.rows('select 1 from orphan'), []);
        await here.tick(1);
        assert.equal((await here.collect(sweeping)).orphans, 0);
        assert.equal((await here.rows('select 1 from orphan')).length, 2);
        await here.tick(TICKS.grace - 1);
        assert.equal((await here.collect(sweeping)).orphans, 0);
        await here.tick(1);
        assert.equal((await here.collect(sweeping)).orphans, 2);
        await here.tick(2);
        assert.equal((await here.collect(sweeping)).deleted, 2);
        const named = [image.digest, ...image.blobs].map((digest) => blobKey(digest, 0) as string);
        assert.deepEqual(await here.keys(), named.sort());
        assert.deepEqual(await here.rows('select 1 from orphan'), []);
        // A late write under a key that is dead.
        await here.storage.put(blobKey(stray, 0), Buffer.from('stray'));
        await here.tick(1);
        assert.equal((await here.collect(sweeping)).orphans, 1);
        await here.tick(2);
        await here.collect(sweeping);
        assert.deepEqual(await here.keys(), named.sort());
        await here.pushBlob(A, 'stray');
        await here.spill();
        assert.ok((await here.keys()).includes(blobKey(stray, 1)));
      }),
    );

    test(
      'it halts when too much would go at once, and goes on when told to',
      onSmall(async (here) => {
        await here.pushImage(A, 'image', 'v1');
        await litter(here, A, 1_200);
        await here.tick(TICKS.grace);
        const careful = here.another({ haltShare: 0.5 });
        const halted = await here.collect(careful);
        assert.match(halted.halted ?? '', /more than 1000 of 120. blobs/);
        assert.equal((await here.rows('select 1 from dead_key')).length, 0);
        const preview = await gcPreview(here.database, 10, 0);
        assert.deepEqual([preview.blobs.length, preview.bytes, preview.more], [10, 60, true]);
        const { signal } = new AbortController();
        assert.ok((await careful.step(signal, { force: true })).unlinked > 0);
      }),
    );

    test(
      'it says why a digest is kept',
      onSmall(async (here) => {
        const image = await here.pushImage(A, 'image', 'v1');
        const loose = await here.pushBlob(B, 'loose');
        const why = await gcExplain(here.database, image.blobs[1]!, 0);
        assert.deepEqual(why.references, [{ repository: A, manifest: image.digest, tags: ['v1'] }]);
        assert.equal(why.blob?.state, 'live');
        assert.match(why.because.join('\n'), /named by a@sha256:.* \(tagged v1\)/);
        assert.match((await gcExplain(here.database, image.digest, 0)).because[0] ?? '', /it is the manifest a@/);
        assert.match(
          (await gcExplain(here.database, loose, 0)).because.join(),
          /linked in b until its review in 4 ticks/,
        );
        await here.store.deleteManifest(CALL, A, image.digest);
        assert.match((await gcExplain(here.database, image.blobs[1]!, 0)).because.join(), /not yet beyond undelete/);
        await here.tick(TICKS.grace);
        await here.collect();
        const gone = await gcExplain(here.database, loose, 0);
        assert.equal(gone.blob, undefined);
        assert.deepEqual(gone.because, []);
        assert.equal(gone.deadKeys.length, 1);
        const status = await gcStatus(here.database);
        assert.equal(status.manifestTombstones, 1);
        assert.equal(status.tagTombstones, 1);
        assert.equal(status.tick, TICKS.grace + 1);
      }),
    );
  });
}
