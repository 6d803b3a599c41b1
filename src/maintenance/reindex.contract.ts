/** What a rebuild promises, on any database: storage alone is enough. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { blobKey } from '../oci/blob-key.ts';
import { digestOf, digestToBytes } from '../oci/digest.ts';
import { OCI_INDEX, OCI_MANIFEST } from '../oci/media-types.ts';
import type { Digest, Tag } from '../oci/names.ts';
import { descriptor, image, index, manifest } from '../registry/samples.testing.ts';
import { memoryStorage } from '../storage/memory.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { CALL, type OpenDatabase } from './gc.testing.ts';
import { openJournal } from './gc-journal.ts';
import { tableRecord } from './mirror-format.ts';
import { type Installation, installed, picture, sound } from './reindex.testing.ts';
import {
  at,
  collectAll,
  historiesContract,
  IMAGES,
  INDEXES,
  name,
  pushIndex,
  pushPlain,
  rebuilt,
} from './reindex-histories.contract.ts';
import { refuseHalfRebuilt, warnOfStranger } from './reindex-mark.ts';

/** One image and its index in `a`, drained; then the work in another database after what `harm` did to storage. */
function harmed(
  open: OpenDatabase,
  harm: (storage: BlobStorage) => Promise<unknown>,
  work: (to: Installation, problems: string[]) => Promise<void>,
): Promise<void> {
  const storage = memoryStorage();
  return installed(open, storage, async (first) => {
    await pushIndex(first, 'a', 0, 'v1');
    await pushPlain(first, 'a', 2, 'v2');
    await pushPlain(first, 'a/b', 3, 'v3');
    await first.drain();
  })
    .then(() => harm(storage))
    .then(() => rebuilt(open, storage, work));
}

/** Registers the tests. */
export function reindexContract(title: string, open: OpenDatabase, histories: number): void {
  describe(title, () => {
    historiesContract(open, histories);

    test('what is not linked stays so, whoever has the bytes; the missing children of a sparse index stay missing', async () => {
      const storage = memoryStorage();
      const secret = await installed(
        open,
        storage,
        async (first) => {
          await first.pushBlob('theirs', at(4).bytes);
          await first.push('theirs', manifest({ schemaVersion: 2, config: descriptor(at(4)) }, OCI_MANIFEST));
          // Both name what they have never had.
          await first.push('mine', IMAGES[1]![0], 'v1');
          await first.push('mine', INDEXES[0]![0], 'v2');
          await first.pushBlob('mine', at(0).bytes);
          await first.push('mine', index([{ ...descriptor(at(0)), mediaType: 'application/x' }]), 'cache');
          await first.drain();
          return picture(first, ['mine', 'theirs']);
        },
        'all',
      );
      await rebuilt(open, storage, async (second, problems) => {
        assert.deepEqual(problems, []);
        assert.deepEqual(await picture(second, ['mine', 'theirs']), secret);
        await assert.rejects(second.store.resolveBlob(CALL, name('mine'), at(4).digest), { code: 'BLOB_UNKNOWN' });
        await second.store.resolveBlob(CALL, name('mine'), at(0).digest);
        const kinds = await second.rows<{ is_child: number; child_id: number | null }>(
          `select f.is_child, f.child_id from reference f join manifest m on m.id = f.manifest_id
           where m.media_type = '${OCI_INDEX}' order by f.is_child, f.child_id is null`,
        );
        assert.deepEqual(
          kinds.flatMap(({ is_child, child_id }) => [is_child, child_id === null]),
          [...[0, true], ...[1, false], ...[1, true]],
        );
      });
    });

    test('a database that has something is refused; one that was begun is marked and gone on with', async () => {
      const storage = memoryStorage();
      await installed(open, storage, async (first) => {
        await pushIndex(first, 'a', 0, 'v1');
        await first.drain();
        await assert.rejects(first.reindex(), /has 1 repositories and \d+ blobs already/);
        await refuseHalfRebuilt(first.database);
      });
      await installed(open, storage, async (second) => {
        const errors: string[] = [];
        const log = { error: (message: string) => errors.push(message) } as never;
        await warnOfStranger({ ...second, log });
        assert.match(errors[0]!, /reindex/);
        const [{ epoch: before } = { epoch: 0 }] = await second.rows<{ epoch: number }>(
          'select epoch from installation',
        );
        const stop = new AbortController();
        const broken = second.reindex({
          verify: false,
          signal: stop.signal,
          onReport: () => stop.abort(new Error('broken off')),
        });
        await assert.rejects(broken, /broken off/);
        await assert.rejects(refuseHalfRebuilt(second.database), /run "longshore reindex" again/);
        const [{ epoch } = { epoch: 0 }] = await second.rows<{ epoch: number }>('select epoch from installation');
        assert.ok(epoch > before);
        // Only sized, broken off among the repositories, and then hashed after all.
        const records = { ...storage.records, list: listUntil(storage, 'index/') };
        const again = second.reindex({ verify: false, storage: { ...storage, records } });
        await assert.rejects(again, /no list/);
        const report = await second.reindex();
        assert.deepEqual([report.resumed, report.repositories, report.manifests, report.lost], [true, 1, 3, 0]);
        assert.ok(report.bytes > 0);
        await refuseHalfRebuilt(second.database);
        errors.length = 0;
        await warnOfStranger({ ...second, log });
        assert.deepEqual(errors, []);
        await sound(second);
        await assert.rejects(second.reindex(), /already/);
      });
    });

    test('of two runs the older one ends', async () => {
      const storage = memoryStorage();
      await installed(open, storage, async (first) => {
        await pushIndex(first, 'a', 0, 'v1');
        await first.drain();
      });
      await installed(open, storage, async (second) => {
        let newer: Promise<unknown> | undefined;
        const older = second.reindex({
          storage: {
            ...storage,
            list(shard) {
              newer ??= second.reindex();
              const listing = newer;
              return (async function* () {
                await listing;
                yield* storage.list(shard);
              })();
            },
          },
        });
        await assert.rejects(older, /taken over/);
        await newer;
        await refuseHalfRebuilt(second.database);
        await sound(second);
      });
    });

    test('several keys of a digest: the highest good one is taken, dead ones never, wrong bytes are left out', async () => {
      const storage = memoryStorage();
      const [config, layer, extra] = [at(1), at(4), at(3)];
      await installed(open, storage, async (first) => {
        for (const one of [config, layer, extra]) await first.pushBlob('a', one.bytes);
        await first.push('a', image(config, [layer, extra]), 'v1');
        await first.drain();
      });
      // Higher and good; higher and wrong; dead, and the only one.
      await storage.put(blobKey(config.digest, 3), config.bytes);
      await storage.put(blobKey(layer.digest, 2), Buffer.alloc(layer.bytes.length));
      const journal = openJournal(storage.records, 1);
      await journal.append([
        { key: blobKey(extra.digest, 0), tick: 5 },
        { key: blobKey(digestOf(Buffer.from('long gone')), 7), tick: 6 },
      ]);
      await rebuilt(open, storage, async (second, problems) => {
        assert.deepEqual(problems, [`: ${blobKey(layer.digest, 2)} does not have the bytes that its name says`]);
        const n = async (digest: Digest) =>
          (await second.rows<{ n: number }>('select n from blob where digest = ?', digestToBytes(digest)))[0]?.n;
        assert.deepEqual([await n(config.digest), await n(layer.digest), await n(extra.digest)], [3, 0, 1]);
        for (const one of [config, layer, extra]) await second.store.resolveBlob(CALL, name('a'), one.digest);
        await collectAll(second);
        // The journal's other key stays dead: a new blob of that digest goes beyond it.
        await second.pushBlob('a', Buffer.from('long gone'));
        assert.equal(await n(digestOf(Buffer.from('long gone'))), 8);
      });
    });

    test('bytes that are missing or wrong: the rest is saved, and what was lost is said', async () => {
      const lost = at(4);
      await harmed(
        open,
        async (storage) => {
          await storage.delete(blobKey(lost.digest, 0));
          await storage.put(blobKey(IMAGES[0]![0].digest, 0), Buffer.from('{}'));
          await storage.put(blobKey(at(5).digest, 0), Buffer.from('other'));
        },
        async (second, problems) => {
          const all = problems.join('\n');
          assert.match(all, /does not have the bytes that its name says/);
          assert.match(all, new RegExp(`a: the manifest ${IMAGES[0]![0].digest} is lost: its bytes are damaged`));
          assert.match(all, new RegExp(`a: the blob ${lost.digest}, which .* names, is not in storage`));
          assert.match(all, new RegExp(`a: the blob ${at(5).digest}, which .* names, is damaged`));
          assert.deepEqual((await second.store.listTags(CALL, name('a'), { limit: 9 })).items, ['v1', 'v2']);
          await second.store.getManifest(CALL, name('a'), { tag: 'v1' as Tag });
          // What comes back is whole again.
          await pushIndex(second, 'a', 0, 'v1');
          await pushPlain(second, 'a', 2, 'v2');
          await second.store.resolveBlob(CALL, name('a'), lost.digest);
          await sound(second);
        },
      );
    });

    test('mirrors that are broken or made up are reported, and nothing is written by what they say', async () => {
      const records: Record<string, string> = {
        'index/_chunks.json': '{}',
        'index/-bad/_chunks.json': '{}',
        'index/x/_chunks.json': 'not JSON',
        'index/x/_tags/0123.json': 'not JSON',
        'index/y/_chunks.json': JSON.stringify({ version: 1, repository: '../../y', tags: [], manifests: [] }),
        'index/z/_chunks.json': JSON.stringify({
          version: 1,
          repository: 'z',
          manifests: [],
          tags: [chunk('index/a/_tags/')],
        }),
        'index/deep/_chunks.json': '['.repeat(1_000_000),
        'index/empty/_chunks.json': JSON.stringify({ version: 1, repository: 'empty', manifests: [], tags: [] }),
        'index/new/_chunks.json': JSON.stringify({ version: 2, repository: 'new' }),
      };
      await harmed(
        open,
        async (storage) => {
          for (const [record, text] of Object.entries(records)) await storage.records.put(record, Buffer.from(text));
          // One chunk of tags has other bytes; what it said is lost, the manifests are not.
          for await (const record of storage.records.list('index/a/b/_tags/'))
            await storage.records.put(record, Buffer.from('{'));
          const entries = Array.from({ length: 3000 }, () => ({
            mediaType: OCI_MANIFEST,
            digest: at(1).digest,
            size: 3,
          }));
          await madeUp(storage, 'huge', { manifests: entries });
          await madeUp(storage, 'odd', {
            manifests: [
              { mediaType: OCI_MANIFEST, digest: 'sha256:../../../x', size: 1 },
              { mediaType: OCI_MANIFEST, digest: at(1).digest, size: 3 },
              { mediaType: 7, digest: at(1).digest, size: 3 },
              null,
              'x',
            ],
          });
        },
        async (second, problems) => {
          const all = problems.join('\n');
          for (const said of [
            /: index\/_chunks\.json is not the mirror of any repository/,
            /: index\/-bad\/_chunks\.json is not the mirror/,
            /^x: its table of chunks is broken: it is not JSON; nothing/m,
            /^y: .*it is of another repository/m,
            /^z: .*it names chunks in a way that it never does/m,
            /^deep: .*it is not JSON/m,
            /^new: .*it is of a form that this program does not know/m,
            /^a\/b: a chunk of 1 tags is lost: it does not have the bytes/m,
            /^huge: a chunk .*is lost: it has 3000 entries/m,
            /^odd: 4 entries of its manifests make no sense/m,
            new RegExp(`^odd: the manifest ${at(1).digest} is lost`, 'm'),
          ])
            assert.match(all, said);
          const { items } = await second.store.listRepositories(CALL, { limit: 100 });
          assert.deepEqual(items, ['a', 'a/b', 'empty', 'huge', 'odd']);
          await second.store.getManifest(CALL, name('a/b'), { digest: IMAGES[3]![0].digest });
        },
      );
    });

    test('a table that is broken is made up for by its chunks', async () => {
      await harmed(
        open,
        (storage) => storage.records.put(tableRecord(name('a')), Buffer.from('{"version":1,')),
        async (second, problems) => {
          assert.match(problems.join(), /^a: its table of chunks is broken: it is not JSON; what the 2 chunks/);
          assert.deepEqual((await second.store.listTags(CALL, name('a'), { limit: 9 })).items, ['v1', 'v2']);
        },
      );
    });

    test('storage in which nothing has its bytes is not believed, unless it is forced', async () => {
      const storage = memoryStorage();
      for (let number = 0; number < 60; number++) {
        await storage.put(blobKey(digestOf(Buffer.from(String(number))), 0), Buffer.from('wrong'));
      }
      await installed(open, storage, async (second) => {
        await assert.rejects(second.reindex(), { code: 'corrupt' });
        await assert.rejects(refuseHalfRebuilt(second.database));
        const report = await second.reindex({ force: true });
        assert.ok(report.wrong > 0 && report.lost === 0);
        const rows = await second.rows<{ count: number }>("select count(*) as count from blob where state = 'damaged'");
        assert.equal(rows[0]?.count, 60);
      });
    });
  });
}

/** A listing of records that fails at this prefix. */
function listUntil(storage: BlobStorage, failing: string): BlobStorage['records']['list'] {
  return async function* (prefix) {
    if (prefix === failing) throw new Error('no list');
    yield* storage.records.list(prefix);
  };
}

function chunk(folder: string): object {
  return { record: `${folder}${'0'.repeat(32)}.json`, sha256: '0'.repeat(64), entries: 1 };
}

/** A mirror with one chunk of manifests, of which only the contents are made up. */
async function madeUp(storage: BlobStorage, repositoryName: string, contents: object): Promise<void> {
  const bytes = Buffer.from(JSON.stringify(contents));
  const hash = digestOf(bytes).slice(7);
  const record = `index/${repositoryName}/_manifests/${hash.slice(0, 32)}.json`;
  await storage.records.put(record, bytes);
  const table = { version: 1, repository: repositoryName, tags: [], manifests: [{ record, sha256: hash, entries: 1 }] };
  await storage.records.put(tableRecord(name(repositoryName)), Buffer.from(JSON.stringify(table)));
}
