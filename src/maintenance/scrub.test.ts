/** Scrub and healing on both databases, over files and over a storage that only streams. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { openTestPostgres, openTestSqlite, stopTestServer } from '../database/open.testing.ts';
import { postgresIsThere } from '../database/postgres/server.testing.ts';
import { systemClock } from '../kit/clock.ts';
import { healContract } from './heal.contract.ts';
import { scrubContract } from './scrub.contract.ts';
import { rateLimit } from './scrub-rate.ts';

scrubContract('the scrub on SQLite over files', openTestSqlite, 'fs');
healContract('healing on SQLite over files', openTestSqlite, 'fs');

if (await postgresIsThere()) {
  after(stopTestServer);
  scrubContract('the scrub on PostgreSQL over a storage that streams', openTestPostgres, 'memory');
  healContract('healing on PostgreSQL over a storage that streams', openTestPostgres, 'memory');
}

test('the rate is held on the clock, over any pieces', async () => {
  const { signal } = new AbortController();
  let now = 0;
  const clock = { ...systemClock, monotonic: () => now, sleep: async (ms: number) => void (now += ms) };
  const limit = rateLimit(clock, 1_000_000);
  for (let i = 0; i < 100; i++) await limit.take(100_000, signal);
  // Ten seconds' worth, of which half a second was in the bucket.
  assert.equal(now, 9_500);
  now += 60_000;
  await limit.take(400_000, signal);
  assert.equal(now, 69_500, 'a pause fills the bucket and no more');
  await limit.take(1_100_000, signal);
  assert.equal(now, 70_500);
  const stop = new AbortController();
  stop.abort(new Error('enough'));
  await assert.rejects(limit.take(1, stop.signal), /enough/);
});
