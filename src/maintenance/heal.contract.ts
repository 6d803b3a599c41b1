/** What healing promises, on any database and storage. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { blobKey } from '../oci/blob-key.ts';
import { digestOf, digestToBytes } from '../oci/digest.ts';
import type { Digest } from '../oci/names.ts';
import { memoryStorage } from '../storage/memory.ts';
import type { OpenDatabase } from './gc.testing.ts';
import { storageHealingSource } from './heal-storage.ts';
import type { HealingSource } from './healing-source.ts';
import { flip, type Kind, type Watched, watched } from './scrub.testing.ts';
import { listDamaged, scrubStatus } from './scrub-status.ts';

const { signal } = new AbortController();
const LARGE = 300_000;

/** A source that answers with this. */
function source(name: string, open: HealingSource['open']): HealingSource {
  return { name, open };
}

async function* pieces(bytes: Buffer, size = 50_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** A damaged blob of so many bytes. */
async function damagedBlob(here: Watched, size: number): Promise<{ digest: Digest; bytes: Buffer }> {
  const bytes = randomBytes(size);
  const digest = await here.push('team/app', bytes);
  await here.spill();
  await here.spoil(digest, flip);
  await here.scrub();
  assert.equal((await here.state(digest))?.state, 'damaged');
  return { digest, bytes };
}

/** Registers the tests. */
export function healContract(title: string, open: OpenDatabase, kind: Kind): void {
  describe(title, { concurrency: false }, () => {
    test('from another storage, under whichever key: large, small and a manifest', () =>
      watched(open, kind, async (here) => {
        const other = memoryStorage();
        const [large, small] = [await damagedBlob(here, LARGE), await damagedBlob(here, 9_000)];
        const manifest = await here.pushManifest('team/app', 'm', 'v1');
        const bytes = Buffer.from((await here.pullManifest('team/app', manifest)) as Uint8Array);
        await here.spill();
        await here.spoil(manifest, flip);
        await here.sql('delete from content where digest = ?', digestToBytes(manifest));
        await here.scrub();
        assert.equal(await here.pullManifest('team/app', manifest), 'MANIFEST_UNKNOWN');
        await other.put(blobKey(large.digest, 0), flip(large.bytes));
        await other.put(blobKey(large.digest, 3), large.bytes);
        await other.put(blobKey(small.digest, 1), small.bytes);
        await other.put(blobKey(manifest, 0), bytes);
        let opened = 0;
        const healing = here.healer([
          storageHealingSource('storage memory', async () => {
            opened++;
            return other;
          }),
        ]);
        assert.equal(opened, 0, 'opened when it is needed');
        assert.deepEqual(await healing.step(signal), { healed: 3, failed: 0, more: false });
        assert.deepEqual(await healing.step(signal), { healed: 0, failed: 0, more: false });
        assert.equal(opened, 1);
        assert.deepEqual(await here.pull('team/app', large.digest), large.bytes);
        assert.deepEqual(await here.pull('team/app', small.digest), small.bytes);
        assert.deepEqual(Buffer.from((await here.pullManifest('team/app', manifest)) as Uint8Array), bytes);
        await here.spill();
        for (const digest of [large.digest, small.digest, manifest]) {
          const row = await here.state(digest);
          assert.deepEqual([row?.state, row?.n, row?.stored], ['live', 1, 1], 'never over the damaged bytes');
        }
        assert.equal((await here.scrub()).damaged, 0);
        const events = (await here.events()).filter(({ type }) => type === 'blob.healed');
        assert.equal(events.length, 3);
        assert.ok(events.every((event) => (event as { healedFrom?: string }).healedFrom === 'storage memory'));
        assert.equal(here.counts.get('longshore_healed_total'), 3);
        assert.equal(here.counts.get('longshore_damaged_blobs'), 0);
        const uploads: string[] = [];
        for await (const upload of here.storage.listUploads()) uploads.push(upload);
        assert.deepEqual(uploads, [], 'nothing is left over');
        await healing.close();
        await assert.rejects(other.stat(blobKey(small.digest, 1)), /closed/i);
      }));

    test('a source that lies, hangs, breaks off, gives too much or fails is passed over; the next one is asked', () =>
      watched(open, kind, async (here) => {
        for (const size of [LARGE, 9_000]) {
          const { digest, bytes } = await damagedBlob(here, size);
          const more = Buffer.concat([bytes, Buffer.from('more')]);
          let ended = 0;
          async function* hanging(): AsyncGenerator<Uint8Array> {
            yield bytes.subarray(0, 100);
            await new Promise(() => {});
          }
          async function* breaking(): AsyncGenerator<Uint8Array> {
            try {
              yield bytes.subarray(0, 100);
              throw new Error('the line went dead');
            } finally {
              ended++;
            }
          }
          const bad: HealingSource[] = [
            source('absent', async () => undefined),
            source('liar', async () => pieces(flip(bytes))),
            source('other', async () => pieces(Buffer.from('something else'))),
            source('greedy', async () => pieces(more)),
            source('short', async () => pieces(bytes.subarray(0, bytes.length - 1))),
            source('broken', async () => breaking()),
            source('hangs', async () => hanging()),
            source('never', () => new Promise(() => {})),
            source('fails', async () => {
              throw new Error('no such host');
            }),
          ];
          const failing = here.healer(bad, { stallMilliseconds: 20 });
          await here.sql('update damage set next_at = 0');
          assert.deepEqual(await failing.step(signal), { healed: 0, failed: 1, more: false });
          const { items } = await listDamaged(here.database, { limit: 1 });
          const outcome = items[0]?.outcome ?? '';
          for (const said of [
            /absent: has not got it/,
            /liar: it gave bytes that hash to/,
            /greedy: it gave more than/,
          ])
            assert.match(outcome, said);
          for (const said of [/short: it gave \d+ of/, /line went dead/, /hangs: it gave nothing/, /no such host/])
            assert.match(outcome, said);
          assert.equal(ended, 1);
          assert.equal((await here.state(digest))?.state, 'damaged');
          assert.equal(await here.pull('team/app', digest), 'BLOB_UNKNOWN');
          // It is not asked again at once.
          assert.deepEqual(await failing.step(signal), { healed: 0, failed: 0, more: false });
          const asked: unknown[] = [];
          const good = source('good', async (...args) => {
            asked.push(args.slice(0, 3));
            return pieces(bytes);
          });
          const healing = here.healer([...bad.slice(0, 2), good], { stallMilliseconds: 5_000 });
          await here.sql('update damage set next_at = 0');
          assert.deepEqual(await healing.step(signal), { healed: 1, failed: 0, more: false });
          assert.deepEqual(asked, [[digest, size, ['team/app']]]);
          assert.deepEqual(await here.pull('team/app', digest), bytes);
          const uploads: string[] = [];
          for await (const upload of here.storage.listUploads()) uploads.push(upload);
          assert.deepEqual(uploads, []);
        }
      }));

    test('its own bytes, where they are back', () =>
      watched(open, kind, async (here) => {
        const { digest, bytes } = await damagedBlob(here, LARGE);
        await here.spoil(digest, () => bytes);
        await here.sql('update damage set next_at = 0');
        assert.equal((await here.healer([]).step(signal)).healed, 1);
        assert.deepEqual(await here.pull('team/app', digest), bytes);
        const row = await here.state(digest);
        assert.deepEqual([row?.state, row?.n], ['live', 0]);
        assert.equal((await scrubStatus(here.database)).open, 0);
      }));

    test('what was pushed meanwhile, or is gone, is closed; a half-made push is taken over', () =>
      watched(open, kind, async (here) => {
        const [pushed, half] = [await damagedBlob(here, LARGE), await damagedBlob(here, LARGE)];
        const gone = await damagedBlob(here, 9_000);
        const key = digestToBytes(gone.digest);
        await here.sql('delete from link where digest = ?', key);
        await here.sql('delete from gc_queue where digest = ?', key);
        await here.sql('delete from blob where digest = ?', key);
        // A push that reserved its key and died.
        await here.sql(
          "update blob set state = 'incoming', n = 1, lease_tick = 1 where digest = ?",
          digestToBytes(half.digest),
        );
        let asked = 0;
        const both = source('s', async (digest) => {
          asked++;
          if (digest === pushed.digest) await here.push('team/app', pushed.bytes);
          return pieces(digest === pushed.digest ? pushed.bytes : half.bytes);
        });
        await here.sql('update damage set next_at = 0');
        const done = await here.healer([both]).step(signal);
        assert.equal(asked, 2);
        assert.equal(done.healed, 1);
        assert.deepEqual(await here.pull('team/app', pushed.digest), pushed.bytes);
        assert.deepEqual(await here.pull('team/app', half.digest), half.bytes);
        const { items } = await listDamaged(here.database, { limit: 10 });
        const stateOf = (digest: Digest) => items.find((one) => one.digest === digest)?.state;
        assert.deepEqual(
          [pushed, half, gone].map(({ digest }) => stateOf(digest)),
          ['healed', 'healed', 'gone'],
        );
        assert.equal(items.find((one) => one.digest === pushed.digest)?.healedFrom, 'push');
      }));

    test('two that heal at once do not take the same', () =>
      watched(open, kind, async (here) => {
        const blobs = [];
        for (let i = 0; i < 6; i++) blobs.push(await damagedBlob(here, 40_000));
        const asked: string[] = [];
        const bytesOf = new Map(blobs.map(({ digest, bytes }) => [digest, bytes]));
        const s = source('s', async (digest) => {
          asked.push(digest);
          return pieces(bytesOf.get(digest)!);
        });
        await here.sql('update damage set next_at = 0');
        const [one, two] = [here.healer([s]), here.healer([s])];
        // The first look of a process takes over what a dead one held, where no other can be alive.
        if (!here.database.shared) await Promise.all([one.step(signal), Promise.resolve()]);
        else await Promise.all([one.step(signal), two.step(signal)]);
        assert.deepEqual([...asked].sort(), [...bytesOf.keys()].sort());
        for (const { digest, bytes } of blobs) assert.deepEqual(await here.pull('team/app', digest), bytes);
      }));

    test('a stop leaves the blob to the next', () =>
      watched(open, kind, async (here) => {
        const { digest, bytes } = await damagedBlob(here, LARGE);
        const stop = new AbortController();
        async function* slow(): AsyncGenerator<Uint8Array> {
          yield bytes.subarray(0, 1000);
          stop.abort(new Error('the server stops'));
          await new Promise(() => {});
        }
        await here.sql('update damage set next_at = 0');
        assert.equal((await here.healer([source('slow', async () => slow())]).step(stop.signal)).healed, 0);
        assert.equal((await here.state(digest))?.state, 'damaged');
        assert.equal((await here.healer([source('s', async () => pieces(bytes))]).step(signal)).healed, 1);
        assert.equal(digestOf((await here.pull('team/app', digest)) as Buffer), digest);
      }));
  });
}
