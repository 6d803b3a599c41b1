/**
 * Uploads of which every request goes to another instance, on PostgreSQL and S3: chunks of odd sizes, and races of two
 * requests that want to go on at the same place. Exactly one of two wins, and what was acknowledged is there to the byte.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import type { Answer, Client } from '../../support/client.ts';
import { digestOf, type Piece, piece } from '../../support/images.ts';
import { choices, runSeed } from '../../support/random.ts';
import { type Fleet, objectsOf, startFleet, stopEngines, until, withFleet } from './fleet.ts';

const OCTETS = { 'content-type': 'application/octet-stream' };
const RACES = 200;
const AT_ONCE = 8;
/** One that stays in the row, one at its edge, and ones that are pieces in the store. */
const SIZES = [200, 32_768, 50_001, 300_000];

await withFleet('uploads of a fleet', () =>
  describe('uploads at three instances', () => {
    const seed = runSeed();
    const random = choices(seed);
    let fleet: Fleet;
    before(async () => {
      fleet = await startFleet({ config: { storage: { redirect: { enabled: false } } } });
    });
    after(async () => {
      await fleet.stop();
      await stopEngines();
    });

    const any = (): Client => random.pick(fleet.clients)!;
    const two = (): [Client, Client] => {
      const first = random.below(3);
      return [fleet.clients[first]!, fleet.clients[(first + 1 + random.below(2)) % 3]!];
    };
    const pathOf = (answer: Answer): string => {
      const at = new URL(answer.headers.location ?? '', fleet.balancer.url);
      return at.pathname + at.search;
    };
    const range = (from: number, to: number) => ({ ...OCTETS, 'content-range': `${from}-${to - 1}` });
    const begin = async (name: string): Promise<string> => {
      const answer = await any().send('POST', `/v2/${name}/blobs/uploads/`);
      assert.equal(answer.status, 202, answer.body.toString());
      return pathOf(answer);
    };
    const isThere = async (name: string, blob: Piece, where = fleet.clients): Promise<void> => {
      for (const one of where) {
        const got = await one.hash(`/v2/${name}/blobs/${blob.digest}`);
        assert.deepEqual(got, { status: 200, size: blob.bytes.length, digest: blob.digest });
      }
    };

    test('chunks of odd sizes, each at a random instance, in both algorithms', async (t) => {
      t.diagnostic(`seed ${seed}`);
      const plans = [
        [1, 1, 7],
        [32_767, 1, 1, 5],
        [32_769, 4_095, 1],
        [100, 70_001, 3, 65_536, 999],
        [5_242_880, 1, 5_242_881],
        [9_000_003, 13],
        Array.from({ length: 40 }, () => 1 + random.below(40_000)),
      ];
      await Promise.all(
        plans.map(async (sizes, number) => {
          const name = `fleet/odd-${number}`;
          const bytes = randomBytes(sizes.reduce((sum, size) => sum + size, 0));
          const algorithm = number % 2 === 0 ? 'sha256' : 'sha512';
          const digest = `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
          let path = await begin(name);
          let at = 0;
          for (const size of sizes) {
            const chunk = bytes.subarray(at, at + size);
            const headers = random.chance(50) ? range(at, at + size) : OCTETS;
            const answer = await any().send('PATCH', path, { headers, body: chunk });
            assert.equal(answer.status, 202, `${number}: ${answer.body}`);
            at += size;
            path = pathOf(answer);
            const status = await any().send('GET', path);
            assert.equal(status.headers.range, `0-${at - 1}`);
            // What stands already is not taken again, wherever it is sent.
            if (random.chance(20)) {
              const again = await any().send('PATCH', path, { headers: range(at - size, at), body: chunk });
              assert.equal(again.status, 416, again.body.toString());
            }
          }
          const end = await any().send('PUT', `${path}${path.includes('?') ? '&' : '?'}digest=${digest}`);
          assert.equal(end.status, 201, end.body.toString());
          for (const one of fleet.clients) {
            const got = await one.hash(`/v2/${name}/blobs/${digest}`);
            assert.deepEqual(got, { status: 200, size: bytes.length, digest: digestOf(bytes) });
          }
        }),
      );
    });

    test(`${RACES} times a PATCH and a PUT of one upload at different instances: exactly one wins`, async (t) => {
      const won = { put: 0, patch: 0 };
      const race = async (number: number): Promise<void> => {
        const name = `fleet/race-${number % 5}`;
        const size = SIZES[number % SIZES.length]!;
        const firstSize = random.pick([0, 100, size])!;
        const [first, left, right] = [randomBytes(firstSize), randomBytes(size), randomBytes(size)];
        const path = await begin(name);
        if (firstSize > 0) {
          const start = await any().send('PATCH', path, { headers: range(0, firstSize), body: first });
          assert.equal(start.status, 202, start.body.toString());
        }
        const whole = piece(Buffer.concat([first, left]));
        const headers = range(firstSize, firstSize + size);
        const [one, other] = two();
        const [put, patch] = await Promise.all([
          one.send('PUT', `${path}?digest=${whole.digest}`, { headers, body: left }),
          other.send('PATCH', path, { headers, body: right }),
        ]);
        const told = `seed ${seed}, race ${number} of ${firstSize} + ${size}: PUT ${put.status} ${put.body}, PATCH ${patch.status} ${patch.body}`;
        if (put.status === 201) {
          won.put++;
          if (firstSize > 0) assert.ok([404, 416].includes(patch.status), told);
          await isThere(name, whole, [other]);
          return;
        }
        won.patch++;
        assert.equal(patch.status, 202, told);
        assert.ok([404, 416].includes(put.status), told);
        const status = await one.send('GET', path);
        assert.equal(status.headers.range, `0-${firstSize + size - 1}`, told);
        const winner = piece(Buffer.concat([first, right]));
        const end = await one.send('PUT', `${path}?digest=${winner.digest}`);
        assert.equal(end.status, 201, `${told} then ${end.body}`);
        await isThere(name, winner, [other]);
        assert.equal((await one.send('HEAD', `/v2/${name}/blobs/${whole.digest}`)).status, 404, told);
      };
      let next = 0;
      const runner = async (): Promise<void> => {
        while (next < RACES) await race(next++);
      };
      await Promise.all(Array.from({ length: AT_ONCE }, runner));
      t.diagnostic(`PUT won ${won.put}, PATCH ${won.patch}`);
    });

    test('who lost a race never has its own bytes believed: the hash that it keeps is of the bytes that won', async () => {
      const race = async (number: number): Promise<void> => {
        const name = 'fleet/lost';
        const [first, left, right, last] = [60_000, 50_000, 50_000, 1_000].map((size) => randomBytes(size)) as [
          Buffer,
          Buffer,
          Buffer,
          Buffer,
        ];
        const path = await begin(name);
        const [one, other] = two();
        assert.equal((await one.send('PATCH', path, { headers: range(0, 60_000), body: first })).status, 202);
        const headers = range(60_000, 110_000);
        const answers = await Promise.all([
          one.send('PATCH', path, { headers, body: left }),
          other.send('PATCH', path, { headers, body: right }),
        ]);
        const told = `seed ${seed}, ${number}: ${answers.map(({ status, body }) => `${status} ${body}`)}`;
        assert.deepEqual(answers.map(({ status }) => status).sort(), [202, 416], told);
        const leftWon = answers[0].status === 202;
        const loser = leftWon ? other : one;
        const lost = piece(Buffer.concat([first, leftWon ? right : left, last]));
        const kept = piece(Buffer.concat([first, leftWon ? left : right, last]));
        const digest = number % 2 === 0 ? lost.digest : kept.digest;
        const put = await loser.send('PUT', `${path}?digest=${digest}`, {
          headers: range(110_000, 111_000),
          body: last,
        });
        assert.equal(put.status, number % 2 === 0 ? 400 : 201, `${told} then ${put.status} ${put.body}`);
        if (number % 2 === 1) await isThere(name, kept);
        else assert.equal((await any().send('HEAD', `/v2/${name}/blobs/${lost.digest}`)).status, 404);
      };
      for (let number = 0; number < 24; number += 4) {
        await Promise.all([0, 1, 2, 3].map((more) => race(number + more)));
      }
    });

    test('what a finished upload was made of goes from the store', async () => {
      // Of a race the loser may still have written after the winner's end; those are swept in time, and few.
      await until(
        'the pieces of finished uploads',
        async () => (await objectsOf(fleet.shared)).filter((name) => name.startsWith('uploads/')).length,
        (left) => left < RACES / 4,
      );
    });
  }),
);
