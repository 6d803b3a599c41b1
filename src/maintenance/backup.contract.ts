/** What a backup promises on every database, and what a restore makes of each state of storage; both in small. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Database } from '../database/database.ts';
import type { Opened } from '../database/open.testing.ts';
import { RESTORE_MARK, SET_MARK } from '../database/restore-mark.ts';
import { openSnapshot } from '../database/snapshot.ts';
import { systemClock } from '../kit/clock.ts';
import { silentLog } from '../kit/log.ts';
import { MIGRATIONS } from '../migrations.ts';
import { blobKey } from '../oci/blob-key.ts';
import { digestOf, digestToBytes } from '../oci/digest.ts';
import { FaultError } from '../oci/error.ts';
import type { Digest } from '../oci/names.ts';
import { memoryStorage } from '../storage/memory.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { type BackupParts, backup } from './backup.ts';
import { pruneBackups, verifyBackups } from './backup-care.ts';
import { type BackupPlace, backupKey, backupPlace, type Point } from './backup-place.ts';
import { restoreDead } from './commands/restore-settle.ts';
import { type OpenDatabase, type Small, small } from './gc.testing.ts';
import { openJournal } from './gc-journal.ts';
import { loadRows } from './restore.ts';
import { refuseHalfRestored } from './restore-mark.ts';
import { settleBlobs } from './restore-settle.ts';

const { signal } = new AbortController();

/** The parts of a backup of a small installation. */
function partsOf(
  { database, storage }: Pick<Small, 'database' | 'storage'>,
  opened: Opened & { readonly url?: string },
  place: BackupPlace,
  changed: Partial<BackupParts> = {},
): BackupParts {
  return {
    ...{ database, storage, place, clock: systemClock, log: silentLog, signal, program: '0.0.0' },
    openSnapshot: () => openSnapshot(opened.url === undefined ? { folder: opened.folder } : { url: opened.url }),
    schemaName: (schema) => MIGRATIONS[schema - 1]!.name,
    tickMilliseconds: 600_000,
    onProgress: () => undefined,
    ...changed,
  };
}

/** Every row of every table that a dump holds, to compare. */
async function contents(database: Database): Promise<Record<string, unknown[]>> {
  const tables: Record<string, unknown[]> = {};
  for (const name of [
    'repository',
    'blob',
    'content',
    'link',
    'manifest',
    'reference',
    'tag',
    'tag_event',
    'signing_key',
  ])
    tables[name] = (await database.query.all<object>(`select * from ${name}`)).map((row) => JSON.stringify(row)).sort();
  return tables;
}

/** Registers the tests for one database. */
export function backupContract(name: string, open: OpenDatabase): void {
  describe(name, () => {
    /** A small installation, the database that it was opened with, and an empty place. */
    const withOne = async (
      work: (one: Small, parts: (changed?: Partial<BackupParts>) => BackupParts, place: BackupPlace) => Promise<void>,
    ): Promise<void> => {
      let opened: (Opened & { url?: string }) | undefined;
      const remember: OpenDatabase = async (options) => {
        opened = await open(options);
        return opened;
      };
      await small(remember, async (one) => {
        const place = backupPlace(memoryStorage(), systemClock);
        await work(one, (changed) => partsOf(one, opened!, place, changed), place);
      });
    };

    test('has every row and every byte, and copies each only once', async () => {
      await withOne(async (one, parts, place) => {
        for (let count = 0; count < 5; count++) await one.pushImage('team/app', `image ${count}`, `v${count}`);
        await one.pushImage('late', 'inline');
        await one.spill();
        const first = await backup(parts());
        assert.ok(first.complete && first.copied === first.blobs && first.blobs === 12, JSON.stringify(first));
        await one.pushImage('team/app', 'one more', 'v9');
        await one.spill();
        const second = await backup(parts());
        assert.equal(second.copied, 2);
        const points = await place.points();
        assert.deepEqual(
          points.map(({ id }) => id),
          [first.id, second.id],
        );
        const seen = await verifyBackups(place, points, { signal, onProgress: () => undefined });
        assert.equal(seen.damagedCount, 0);
        assert.equal(seen.blobs, 14);
        const before = await contents(one.database);
        // Loaded over the same database: the very same rows.
        await one.sql(SET_MARK.replace('?', "'a test'"));
        await assert.rejects(refuseHalfRestored(one.database), /longshore restore/);
        await loadRows({ database: one.database, place, signal }, points[1]!, () => undefined);
        await one.sql(`delete from lease where name = '${RESTORE_MARK}'`);
        assert.deepEqual(await contents(one.database), before);
        // Numbers go on behind those that were given.
        await one.pushImage('team/other', 'after the restore', 'v1');
      });
    });

    test('of somebody who writes tables and columns of his own is refused, and changes nothing', async () => {
      await withOne(async (one, parts, place) => {
        await one.pushImage('team/app', 'image', 'v1');
        await backup(parts());
        const [point] = await place.points();
        const tag = point!.tables.find((table) => table.name === 'tag')!;
        await one.sql(SET_MARK.replace('?', "'a test'"));
        const before = await contents(one.database);
        const load = (tables: Point['tables']) =>
          loadRows({ database: one.database, place, signal }, { ...point!, tables }, () => undefined);
        for (const name of ['lease', 'migration', 'sqlite_sequence', 'pg_authid', 'no_such', 'tag" where 1=1 --', ''])
          await assert.rejects(load([{ ...tag, name }]), { code: 'corrupt' }, name);
        assert.deepEqual(await contents(one.database), before);
        await assert.rejects(
          load([{ ...tag, columns: ['a") select 1, 2, 3 --', ...tag.columns.slice(1)] }]),
          { code: 'corrupt' },
          'a column',
        );
        await one.sql(`delete from lease where name = '${RESTORE_MARK}'`);
      });
    });

    test('holds the collector off the bytes of its snapshot, and lets go afterwards', async () => {
      await withOne(async (one, parts, place) => {
        await one.pushImage('team/app', 'kept');
        const lone = await one.pushBlob('team/app', 'x'.repeat(40_000));
        let leases = 0;
        const collected: number[] = [];
        let began = false;
        const slow: BlobStorage = {
          ...one.storage,
          async read(key, range) {
            leases = (
              await one.rows<{ count: number }>("select count(*) as count from lease where kind = 'backup'")
            )[0]!.count;
            // Long enough for the lone blob to be given up and for its bytes to be due.
            if (!began) {
              began = true;
              await one.tick(5);
              await one.collect();
              await one.tick(3);
              collected.push((await one.collect()).deleted);
            }
            return one.storage.read(key, range);
          },
        };
        const done = await backup(parts({ storage: slow, tickMilliseconds: 1_000 }));
        assert.deepEqual(collected, [0], 'bytes of the snapshot were deleted');
        assert.equal(leases, 1);
        assert.ok(done.complete);
        assert.notEqual(await place.storage.stat(backupKey(lone)), undefined);
        assert.deepEqual(await one.rows("select name from lease where kind = 'backup'"), []);
        assert.ok((await one.collect()).deleted > 0, 'the bytes are kept though nobody needs them');
      });
    });

    test('with bytes that are missing or damaged is made, and says that it is incomplete', async () => {
      await withOne(async (one, parts, place) => {
        const { blobs } = await one.pushImage('team/app', 'hurt');
        const lone = await one.pushBlob('team/app', 'y'.repeat(50_000));
        await one.storage.put(blobKey(blobs[1]!, 0), Buffer.from('z'.repeat(40_000)));
        await one.storage.delete(blobKey(lone, 0));
        const done = await backup(parts());
        assert.deepEqual([done.complete, done.missingCount], [false, 2]);
        assert.deepEqual([...done.missing].sort(), [blobs[1]!, lone].sort());
        assert.equal(await place.storage.stat(backupKey(blobs[1]!)), undefined);
        assert.equal((await place.points())[0]!.complete, false);
      });
    });

    test('that fails or is broken off leaves no point, no lock and no lease', async () => {
      await withOne(async (one, parts, place) => {
        await one.pushImage('team/app', 'some');
        const full: BlobStorage = {
          ...place.storage,
          put: () => Promise.reject(new FaultError('full', 'The disk is full.')),
        };
        await assert.rejects(backup(parts({ place: { ...place, storage: full } })), /full/);
        const aborted = new AbortController();
        aborted.abort(new Error('enough'));
        await assert.rejects(backup(parts({ signal: aborted.signal })), /enough/);
        assert.deepEqual(await place.points(), []);
        for await (const record of place.storage.records.list('locks/')) assert.fail(record);
        assert.deepEqual(await one.rows("select name from lease where kind = 'backup'"), []);
        assert.ok((await backup(parts())).complete);
      });
    });

    test('and a prune keep out of one another’s way; what is kept stays whole', async () => {
      await withOne(async (one, parts, place) => {
        const old = await one.pushBlob('team/app', 'o'.repeat(40_000));
        await one.pushImage('team/app', 'first');
        await backup(parts());
        await one.tick(6);
        await one.collect();
        // What two reviewers met at is left for the next tick.
        await one.tick(1);
        await one.collect();
        await one.pushImage('team/app', 'second');
        const last = await backup(parts());
        const options = { now: systemClock.now(), signal };
        const running = await place.lock('backup', 'another');
        await assert.rejects(pruneBackups(place, 1, options), /backup is under way/);
        await running.end();
        const pruning = await place.lock('prune', 'another');
        await assert.rejects(backup(parts()), /prune is under way/);
        await pruning.end();
        const done = await pruneBackups(place, 1, options);
        assert.deepEqual(done.kept, [last.id]);
        assert.ok(done.blobs >= 1);
        assert.equal(await place.storage.stat(backupKey(old)), undefined);
        const seen = await verifyBackups(place, await place.points(), { signal, onProgress: () => undefined });
        assert.equal(seen.damagedCount, 0);
        assert.ok(seen.blobs > 0);
      });
    });

    test('a restore settles every state in which a blob and its keys can be', async () => {
      await withOne(async (one, _parts, place) => {
        const { database, storage } = one;
        const size = 40_000;
        const make = async (text: string): Promise<{ digest: Digest; bytes: Buffer; key: Uint8Array }> => {
          const bytes = Buffer.from(text.padEnd(size, '.'));
          const digest = digestOf(bytes);
          return { digest, bytes, key: digestToBytes(digest) };
        };
        const row = (key: Uint8Array, state: string, n: number | null, stored: number): Promise<void> =>
          one.sql(
            'insert into blob (digest, state, size, n, stored) values (?, ?, ?, ?, ?)',
            key,
            state,
            size,
            n,
            stored,
          );
        const dead = async (key: Uint8Array, n: number): Promise<void> => {
          await database.run(restoreDead, { keys: [{ digest: key, n }] });
        };
        const all = {
          inPlace: await make('in place'),
          inline: await make('inline and its key is dead'),
          inlineLost: await make('inline and its stored bytes are gone'),
          deadThere: await make('its key is dead and the bytes are there'),
          deadCopied: await make('its key is dead and the backup has it'),
          deadLost: await make('its key is dead and nobody has it'),
          newer: await make('its key is dead and a later push stored it again'),
          gone: await make('its bytes are gone and the backup has them'),
          lost: await make('its bytes are gone and nobody has them'),
          short: await make('its file is cut short'),
          rotten: await make('something else lies under its next key'),
          damaged: await make('it was damaged and the backup has it'),
          incoming: await make('it was being uploaded'),
          absent: await make('nobody ever had it'),
        };
        const { key: keyOf } = { key: (one: { digest: Digest }, n: number) => blobKey(one.digest, n) };
        await row(all.inPlace.key, 'live', 0, 1);
        await storage.put(keyOf(all.inPlace, 0), all.inPlace.bytes);
        for (const each of [all.inline, all.inlineLost]) {
          await row(each.key, 'live', 0, 1);
          await one.sql('insert into content (digest, bytes) values (?, ?)', each.key, each.bytes);
        }
        await dead(all.inline.key, 0);
        for (const each of [all.deadThere, all.deadCopied, all.deadLost, all.newer]) {
          await row(each.key, 'live', 0, 1);
          await dead(each.key, 0);
        }
        await storage.put(keyOf(all.deadThere, 0), all.deadThere.bytes);
        await storage.put(keyOf(all.newer, 1), all.newer.bytes);
        for (const each of [all.gone, all.lost, all.short, all.rotten]) await row(each.key, 'live', 0, 1);
        await storage.put(keyOf(all.short, 0), all.short.bytes.subarray(1));
        await storage.put(keyOf(all.rotten, 1), Buffer.from('?'.repeat(size)));
        await row(all.damaged.key, 'damaged', 0, 0);
        await row(all.incoming.key, 'incoming', 0, 0);
        await row(all.absent.key, 'absent', null, 0);
        const stranger = await make('no row knows it');
        await storage.put(keyOf(stranger, 0), stranger.bytes);
        for (const each of [all.deadCopied, all.gone, all.short, all.rotten, all.damaged])
          await place.storage.put(backupKey(each.digest), each.bytes);
        // What the place has under this name is something else: it is not believed.
        await place.storage.put(backupKey(all.lost.digest), Buffer.from('!'.repeat(size)));

        const counts = await settleBlobs({
          ...{ database, storage, place, isFresh: false, signal },
          onProgress: () => undefined,
        });
        const ends: Record<string, unknown> = {};
        for (const [name, { digest, key }] of Object.entries(all)) {
          const [found] = await one.rows<{ state: string; n: number | null; stored: number }>(
            'select state, n, stored from blob where digest = ?',
            key,
          );
          const { state, n, stored } = found!;
          ends[name] = n === null ? state : `${state} ${n} ${stored === 1 ? 'stored' : 'inline'}`;
          if (state !== 'live' || stored !== 1) continue;
          const chunks: Buffer[] = [];
          for await (const chunk of await storage.read(blobKey(digest, n!))) chunks.push(chunk as Buffer);
          assert.equal(digestOf(Buffer.concat(chunks)), digest, name);
        }
        assert.deepEqual(ends, {
          inPlace: 'live 0 stored',
          inline: 'live 1 inline',
          inlineLost: 'live 0 inline',
          deadThere: 'live 1 stored',
          deadCopied: 'live 1 stored',
          deadLost: 'absent',
          newer: 'live 1 stored',
          gone: 'live 1 stored',
          lost: 'damaged 1 inline',
          short: 'live 1 stored',
          rotten: 'live 2 stored',
          damaged: 'live 1 stored',
          incoming: 'absent',
          absent: 'absent',
        });
        assert.deepEqual([...counts.lost].sort(), [all.deadLost.digest, all.lost.digest].sort());
        assert.ok(counts.unknown >= 1);
        const named = await one.rows(
          'select b.digest from blob b join dead_key k on k.digest = b.digest and k.n = b.n',
        );
        assert.deepEqual(named, [], 'a row names a dead key');
        // Once more nothing changes.
        const again = await settleBlobs({
          ...{ database, storage, place, isFresh: false, signal },
          onProgress: () => undefined,
        });
        assert.deepEqual([again.copied, again.found, again.lostCount], [0, 0, 1]);
      });
    });

    test('the journal of a storage is read whole, and what it names is dead', async () => {
      await withOne(async (one) => {
        const journal = openJournal(one.storage.records, systemClock.now());
        const digest = digestOf(Buffer.from('gone'));
        await journal.append([{ key: blobKey(digest, 3), tick: 9 }]);
        assert.equal(await one.database.run(restoreDead, { keys: [{ digest: digestToBytes(digest), n: 3 }] }), 1);
        assert.equal(await one.database.run(restoreDead, { keys: [{ digest: digestToBytes(digest), n: 3 }] }), 0);
      });
    });
  });
}
