/** What the scrub promises, on any database and storage. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { type Clock, systemClock } from '../kit/clock.ts';
import { digestToBytes } from '../oci/digest.ts';
import { FaultError } from '../oci/error.ts';
import type { Digest } from '../oci/names.ts';
import type { OpenDatabase } from './gc.testing.ts';
import { flip, type Kind, watched } from './scrub.testing.ts';
import { BUSY } from './scrub.ts';
import { listDamaged, scrubStatus } from './scrub-status.ts';

const LARGE = 300_000;

/** Registers the tests. */
export function scrubContract(title: string, open: OpenDatabase, kind: Kind): void {
  describe(title, { concurrency: false }, () => {
    test('what is whole stays, and is looked at once a round: inline, spilled, large, manifests, sha512, empty', () =>
      watched(open, kind, async (here) => {
        const digests = [
          await here.push('a', randomBytes(LARGE)),
          await here.push('a', randomBytes(LARGE), 'sha512'),
          await here.push('a', randomBytes(20_000)),
          await here.push('a', new Uint8Array(0)),
        ];
        const manifest = await here.pushManifest('a', 'one', 'v1');
        await here.spill();
        digests.push(await here.push('a', randomBytes(1_000)));
        const done = await here.scrub();
        assert.deepEqual([done.blobs, done.damaged, done.unreadable, done.more], [7, 0, 0, false]);
        const manifestBytes = (await here.state(manifest))?.size ?? 0;
        const config = done.bytes - 2 * LARGE - 21_000 - 2 * manifestBytes;
        assert.ok(config > 0 && config < 100, 'each byte once; of a manifest both copies');
        const status = await scrubStatus(here.database);
        assert.deepEqual(
          [status.round, status.running, status.blobs, status.totalBlobs, status.open],
          [1, false, 7, 7, 0],
        );
        assert.equal(here.counts.get('longshore_scrub_bytes_total'), done.bytes);
        for (const digest of digests) assert.equal((await here.state(digest))?.state, 'live');
        assert.deepEqual(await here.events(), []);
      }));

    const SPOILS: Readonly<Record<string, readonly [(bytes: Buffer) => Buffer | undefined, RegExp]>> = {
      'one bit flipped': [flip, /another digest/],
      'other bytes of the same length': [(bytes) => randomBytes(bytes.length), /another digest/],
      'cut short': [(bytes) => bytes.subarray(0, bytes.length - 1), /bytes instead of/],
      longer: [(bytes) => Buffer.concat([bytes, Buffer.from('x')]), /bytes instead of/],
      emptied: [() => Buffer.alloc(0), /0 bytes instead of/],
      missing: [() => undefined, /missing/],
    };
    test('damaged bytes are found, answered with 404, recorded and told of', () =>
      watched(open, kind, async (here) => {
        const whole = await here.push('a', randomBytes(LARGE));
        const spoilt: [Digest, RegExp, Buffer][] = [];
        for (const [change, why] of Object.values(SPOILS)) {
          for (const size of [LARGE, 9_000]) {
            const bytes = randomBytes(size);
            const digest = await here.push('a', bytes);
            await here.spill();
            await here.spoil(digest, change);
            spoilt.push([digest, why, bytes]);
          }
        }
        const done = await here.scrub();
        assert.equal(done.damaged, spoilt.length);
        const { items } = await listDamaged(here.database, { limit: 100 });
        for (const [digest, why] of spoilt) {
          assert.equal((await here.state(digest))?.state, 'damaged');
          assert.equal(await here.pull('a', digest), 'BLOB_UNKNOWN');
          const record = items.find((one) => one.digest === digest);
          assert.match(record?.why ?? '', why);
          assert.deepEqual([record?.state, record?.foundBy], ['open', 'scrub']);
          assert.ok(
            here.lines.some(
              ({ level, fields }) => level === 'error' && (fields as { digest?: string }).digest === digest,
            ),
          );
        }
        assert.equal((await here.state(whole))?.state, 'live');
        assert.equal(items.length, spoilt.length);
        assert.equal(here.counts.get('longshore_damaged_blobs'), spoilt.length);
        const events = await here.events();
        assert.equal(events.filter(({ type }) => type === 'blob.damaged').length, spoilt.length);
        assert.ok(events.every(({ repository, actor }) => repository === 'a' && actor === 'system:scrub'));
        // Found once: the next round has nothing new to say.
        assert.equal((await here.scrub()).damaged, 0);
        // A push heals, under a key that was never dead, and closes the record.
        for (const [digest, , bytes] of spoilt) {
          const before = await here.state(digest);
          await here.push('a', bytes);
          assert.notEqual((await here.state(digest))?.n, before?.n);
          assert.deepEqual(await here.pull('a', digest), bytes);
        }
        const after = await listDamaged(here.database, { limit: 100 });
        assert.ok(after.items.every(({ state, healedFrom }) => state === 'healed' && healedFrom === 'push'));
        assert.equal((await here.events()).filter(({ type }) => type === 'blob.healed').length, spoilt.length);
        assert.deepEqual((await listDamaged(here.database, { limit: 100, open: true })).items, []);
      }));

    test('records come in pages, the newest first', () =>
      watched(open, kind, async (here) => {
        const digests: Digest[] = [];
        for (let i = 0; i < 5; i++) digests.push(await here.push('a', Buffer.from(`page ${i}`)));
        await here.push('a', randomBytes(LARGE));
        await here.spill();
        for (const digest of digests) await here.spoil(digest, flip);
        await here.scrub();
        const seen: Digest[] = [];
        for (let after: number | undefined; ; ) {
          const page = await listDamaged(here.database, { limit: 2, ...(after === undefined ? {} : { after }) });
          seen.push(...page.items.map(({ digest }) => digest));
          if (page.next === undefined) break;
          after = page.next;
        }
        assert.deepEqual([...seen].sort(), [...digests].sort());
      }));

    test('a manifest whose stored copy is damaged is served on, and stored again under a new key', () =>
      watched(open, kind, async (here) => {
        const manifest = await here.pushManifest('a', 'one', 'v1');
        await here.spill();
        await here.spoil(manifest, flip);
        const bytes = await here.pullManifest('a', manifest);
        assert.equal((await here.scrub()).damaged, 1);
        const row = await here.state(manifest);
        assert.deepEqual([row?.state, row?.n, row?.stored], ['live', 1, 0]);
        assert.deepEqual(await here.pullManifest('a', manifest), bytes);
        await here.spill();
        assert.deepEqual(await here.stored(manifest), Buffer.from(bytes as Uint8Array));
        const { items } = await listDamaged(here.database, { limit: 10 });
        assert.deepEqual([items[0]?.state, items[0]?.healedFrom], ['healed', 'database']);
        assert.equal((await here.scrub()).damaged, 0);
      }));

    test('inline bytes that rot come back from storage, else the blob is damaged', () =>
      watched(open, kind, async (here) => {
        const manifest = await here.pushManifest('a', 'stored', 'v1');
        const lost = await here.pushManifest('a', 'lost', 'v2');
        await here.spill();
        const [good, small] = [await here.pullManifest('a', manifest), Buffer.from('small and only inline')];
        const inline = await here.push('b', small);
        const fresh = await here.pushManifest('a', 'not spilled', 'v3');
        for (const digest of [manifest, inline, fresh])
          await here.sql('update content set bytes = ? where digest = ?', Buffer.from('rotten'), digestToBytes(digest));
        await here.sql('delete from content where digest = ?', digestToBytes(lost));
        assert.equal((await here.scrub()).damaged, 4);
        assert.deepEqual(await here.pullManifest('a', manifest), good);
        assert.equal(typeof (await here.pullManifest('a', lost)), 'object');
        assert.equal(await here.pullManifest('a', fresh), 'MANIFEST_UNKNOWN');
        assert.equal(await here.pull('b', inline), 'BLOB_UNKNOWN');
        await here.push('b', small);
        await here.pushManifest('a', 'not spilled', 'v3');
        assert.deepEqual(await here.pull('b', inline), small);
        assert.equal(typeof (await here.pullManifest('a', fresh)), 'object');
        assert.equal((await here.scrub()).damaged, 0);
        assert.equal((await scrubStatus(here.database)).open, 0);
      }));

    test('both copies of a manifest damaged: it is not served', () =>
      watched(open, kind, async (here) => {
        const manifest = await here.pushManifest('a', 'one', 'v1');
        await here.spill();
        await here.spoil(manifest, flip);
        await here.sql('update content set bytes = ? where digest = ?', Buffer.from('rotten'), digestToBytes(manifest));
        assert.equal((await here.scrub()).damaged, 1);
        assert.equal(await here.pullManifest('a', manifest), 'MANIFEST_UNKNOWN');
        await here.pushManifest('a', 'one', 'v1');
        assert.equal(typeof (await here.pullManifest('a', manifest)), 'object');
      }));

    test('a storage that cannot be asked is no damage; one blob that cannot be read is passed over', () =>
      watched(open, kind, async (here) => {
        const digests = [await here.push('a', randomBytes(LARGE)), await here.push('a', randomBytes(LARGE))].sort();
        const { storage } = here;
        const { ping } = storage;
        const changed = storage as { -readonly [K in keyof typeof storage]: (typeof storage)[K] };
        const away = async (): Promise<never> => {
          throw new FaultError('unavailable', 'the disk reported an error');
        };
        const { read, openRandom } = storage;
        changed.read = away;
        if (openRandom !== undefined) changed.openRandom = away;
        changed.ping = away;
        for (let again = 0; again < 5; again++) assert.match((await here.scrub()).waits ?? '', /does not answer/);
        assert.equal((await scrubStatus(here.database)).blobs, 0);
        changed.ping = ping;
        // Only the first of them.
        const hex = digests[0]!.slice(7);
        changed.read = (key, range) => (key.includes(hex) ? away() : read(key, range));
        if (openRandom !== undefined) changed.openRandom = (key) => (key.includes(hex) ? away() : openRandom(key));
        for (let again = 0; again < 2; again++) assert.match((await here.scrub({})).waits ?? '', /cannot be read/);
        const done = await here.scrub({});
        assert.deepEqual([done.blobs, done.unreadable, done.damaged], [2, 1, 0]);
        for (const digest of digests) assert.equal((await here.state(digest))?.state, 'live');
        changed.read = read;
        if (openRandom !== undefined) changed.openRandom = openRandom;
        assert.deepEqual((await here.scrub()).unreadable, 0);
      }));

    test('what is read wrong once and right the second time is not damaged', () =>
      watched(open, kind, async (here) => {
        const bytes = randomBytes(LARGE);
        const digest = await here.push('a', bytes);
        await here.spoil(digest, flip);
        const { storage } = here;
        const changed = storage as { -readonly [K in keyof typeof storage]: (typeof storage)[K] };
        const { stat } = storage;
        let looks = 0;
        changed.stat = async (key) => {
          if (++looks === 2) await here.spoil(digest, () => bytes);
          return stat(key);
        };
        assert.equal((await here.scrub()).damaged, 0);
        assert.equal(looks, 2);
      }));

    test('where nothing at all is there the scrub halts, and goes on when told to', () =>
      watched(open, kind, async (here) => {
        const digests: Digest[] = [];
        for (let i = 0; i < 12; i++) digests.push(await here.push('a', Buffer.from(`gone ${i}`)));
        await here.spill();
        for (const digest of digests) await here.spoil(digest, () => undefined);
        assert.match((await here.scrub()).waits ?? '', /right place/);
        assert.match((await scrubStatus(here.database)).halted ?? '', /right place/);
        assert.equal((await here.state(digests[0]!))?.state, 'live');
        assert.equal((await here.scrub({ force: true })).damaged, 12);
        assert.equal((await scrubStatus(here.database)).halted, undefined);
      }));

    test('a round goes on where it was, in another process and over large blobs; one works at a time', () =>
      watched(open, kind, async (here) => {
        for (let i = 0; i < 100; i++) await here.push('a', Buffer.from(`one of many ${i}`));
        await here.push('a', randomBytes(20 * 1024 * 1024));
        const { signal } = new AbortController();
        const [first, second] = [here.scrubber(), here.scrubber()];
        const begun = await first.step(signal, { begin: true, fullSpeed: true });
        assert.ok(begun.more && begun.blobs > 0 && begun.blobs < 101);
        if (here.database.shared) {
          // The other process has to wait until the first has been silent for a minute.
          assert.equal((await second.step(signal)).waits, BUSY);
          await here.sql('update scrub set until_at = 0');
        }
        const rest = await here.scrub({}, second);
        assert.equal(begun.blobs + rest.blobs, 101);
        assert.equal((await scrubStatus(here.database)).blobs, 101);
        // The first was paused and wakes up: it moves nothing.
        await here.sql('update scrub set ended_at = null, until_at = ?', systemClock.now() + 30_000);
        if (here.database.shared) assert.equal((await first.step(signal)).waits, BUSY);
      }));

    test('a round begins when it is due, whatever the clock was set to', () =>
      watched(open, kind, async (here) => {
        await here.push('a', Buffer.from('x'));
        let shift = 0;
        const clock: Clock = { ...systemClock, now: () => systemClock.now() + shift };
        const scrub = here.scrubber({ every: 1_000_000 }, clock);
        assert.equal((await here.scrub({}, scrub)).blobs, 1);
        assert.equal((await here.scrub({}, scrub)).blobs, 0);
        shift = 999_000;
        assert.equal((await here.scrub({}, scrub)).blobs, 0);
        shift = 1_001_000;
        assert.equal((await here.scrub({}, scrub)).blobs, 1);
        shift = -3_000_000;
        assert.equal((await here.scrub({}, scrub)).blobs, 1);
        assert.equal((await scrubStatus(here.database)).round, 3);
      }));

    test('an abort ends a step soon and loses nothing', () =>
      watched(open, kind, async (here) => {
        await here.push('a', randomBytes(LARGE));
        const stop = new AbortController();
        const waiting: Clock = {
          ...systemClock,
          sleep: (milliseconds, signal) => {
            stop.abort(new Error('stop'));
            return systemClock.sleep(milliseconds, signal);
          },
        };
        const done = await here.scrubber({ rate: 1 }, waiting).step(stop.signal, { begin: true });
        assert.deepEqual([done.more, done.damaged, done.unreadable], [true, 0, 0]);
        assert.equal((await scrubStatus(here.database)).running, true);
      }));

    test('a pull never gives wrong bytes whole, and reports what it met', () =>
      watched(open, kind, async (here) => {
        for (const size of [9_000, LARGE, 2_000_000]) {
          const bytes = randomBytes(size);
          const digest = await here.push('a', bytes);
          await here.spill();
          await here.spoil(digest, flip);
          const answers = await Promise.all(Array.from({ length: 4 }, () => here.pull('a', digest)));
          const said = answers.map((answer) => (typeof answer === 'string' ? answer : 'wrong bytes'));
          assert.deepEqual(said, Array(4).fill('BLOB_UNKNOWN'));
          assert.equal((await here.state(digest))?.state, 'damaged');
          const { items } = await listDamaged(here.database, { limit: 1 });
          assert.deepEqual([items[0]?.digest, items[0]?.foundBy], [digest, 'pull']);
          await here.push('a', bytes);
          assert.deepEqual(await here.pull('a', digest), bytes);
        }
      }));
  });
}
