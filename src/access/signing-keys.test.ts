import assert from 'node:assert/strict';
import { after, beforeEach, test } from 'node:test';
import type { Database } from '../database/database.ts';
import { type HandClock, handClock, openTestDatabase } from './access.testing.ts';
import { MAX_TOKEN_SECONDS, openSigningKeys } from './signing-keys.ts';

const DAY = 86_400_000;
let clock: HandClock;
let database: Database;
const closing: (() => Promise<void>)[] = [];
after(() => Promise.all(closing.map((close) => close())));
beforeEach(async () => {
  clock = handClock();
  const opened = await openTestDatabase(clock);
  database = opened.database;
  closing.push(opened.close);
});

const kidOf = async (keys: Awaited<ReturnType<typeof openSigningKeys>>): Promise<string> => (await keys.signer()).kid;

test('the first start makes one key; every other instance and every restart has the same', async () => {
  const [one, two] = await Promise.all([openSigningKeys(database, clock), openSigningKeys(database, clock)]);
  const three = await openSigningKeys(database, clock);
  assert.equal(await kidOf(one), await kidOf(three));
  assert.equal(await kidOf(two), await kidOf(three));
  const rows = await database.query.all<{ algorithm: string; public_jwk: string }>('select * from signing_key limit 9');
  assert.equal(rows.length, 1);
  assert.equal(rows[0]!.algorithm, 'ES256');
  assert.equal(JSON.parse(rows[0]!.public_jwk).d, undefined);
});

test('a new key is made when it is due, signs a day later, and the old one verifies until its tokens have ended', async () => {
  const keys = await openSigningKeys(database, clock);
  const other = await openSigningKeys(database, clock);
  const first = await kidOf(keys);
  assert.equal(await keys.rotateIfDue(clock.now()), false);
  clock.move(90 * DAY);
  const made = await Promise.all([keys.rotateIfDue(clock.now()), other.rotateIfDue(clock.now())]);
  assert.equal(made.filter(Boolean).length, 1);
  assert.equal(await keys.rotateIfDue(clock.now()), false);
  assert.equal(await kidOf(keys), first);
  clock.move(DAY);
  const second = await kidOf(keys);
  assert.notEqual(second, first);
  assert.equal(await kidOf(other), second);
  assert.equal(keys.peek(first)?.kid, first);
  clock.move(MAX_TOKEN_SECONDS * 1000);
  assert.equal(keys.peek(first)?.kid, first);
  clock.move(DAY + 1000);
  assert.equal(keys.peek(first), undefined);
  assert.equal(await keys.find(first), undefined);
  assert.equal(keys.peek(second)?.kid, second);
});

test('an unknown key makes the keys be read again, at most once a second; what is no id never does', async () => {
  let reads = 0;
  const counting: Pick<Database, 'run' | 'query'> = {
    run: (...asked) => database.run(...asked),
    query: {
      get: database.query.get,
      all: <Row>(text: string, ...values: readonly (string | number | Uint8Array | null)[]) => {
        reads++;
        return database.query.all<Row>(text, ...values);
      },
    },
  };
  const keys = await openSigningKeys(counting, clock);
  const before = reads;
  clock.move(2000);
  const unknown = 'AAAAAAAAAAAAAAAAAAAAAA';
  await Promise.all(Array.from({ length: 50 }, () => keys.find(unknown)));
  await keys.find(unknown);
  assert.equal(reads, before + 1);
  clock.move(2000);
  for (const kid of ['../../x', '', 'a'.repeat(10_000), '__proto__', "' or 1=1"])
    assert.equal(await keys.find(kid), undefined);
  assert.equal(reads, before + 1);
});
