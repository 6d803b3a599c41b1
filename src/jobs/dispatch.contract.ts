/** The contract of the dispatch: events become jobs, each once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Event } from '../events/event.ts';
import { type Log, silentLog } from '../kit/log.ts';
import { blob, descriptor } from '../registry/samples.testing.ts';
import { testEmit, testOutbox } from './commands.testing.ts';
import type { JobGiver } from './job.ts';
import { job, type OnDatabase, pushed, rowsOf, until } from './suite.testing.ts';

/** Registers the tests. */
export function dispatchContract(on: OnDatabase): void {
  test(
    'events become jobs, each event once, waiting jobs of one key once',
    on(async (database, start) => {
      const seen: Event[] = [];
      const ran: unknown[] = [];
      const giver: JobGiver = {
        name: 'test',
        jobs: [job('a', async (_c, payload) => void ran.push(payload))],
        on: {
          'tag.moved': (event) => {
            seen.push(event);
            return [
              { type: 'a', payload: event.tag },
              { type: 'a', payload: event.repository, key: event.repository, runAt: 0 },
            ];
          },
        },
      };
      const count = 603;
      const events = Array.from({ length: count }, (_, n) => pushed(n));
      await database.run(testEmit, { events });
      await database.run(testEmit, { events: [{ ...pushed(1), type: 'blob.pushed', blob: descriptor(blob('x')) }] });
      const { idle } = start([giver]);
      await idle();
      assert.equal(seen.length, count);
      assert.equal(new Set(seen.map((event) => event.id)).size, count);
      assert.ok(seen.every((event, i) => i === 0 || event.sequence > seen[i - 1]!.sequence));
      assert.equal(ran.filter((payload) => /^t\d+$/.test(String(payload))).length, count);
      const keyed = ran.filter((payload) => String(payload).startsWith('team/'));
      assert.ok(keyed.length >= 3 && keyed.length <= 9, `${keyed.length} jobs of three keys`);
      assert.deepEqual(await database.query.all('select id from outbox limit 10'), []);
    }),
  );

  test(
    'a change wakes the dispatch by itself',
    on(async (database, start) => {
      let runs = 0;
      const giver: JobGiver = {
        name: 'test',
        jobs: [job('a', async () => void runs++)],
        on: { 'tag.moved': async () => [{ type: 'a', payload: null }] },
      };
      const jobs = start([giver], { pollMilliseconds: 3_600_000 });
      await jobs.idle();
      await database.run(testEmit, { events: [pushed(1)] });
      await until(() => runs === 1);
    }),
  );

  test(
    'a handler that fails is asked again, and the event is not lost; in the end the others go on',
    on(async (database, start) => {
      let asked = 0;
      const ran: unknown[] = [];
      const lines: string[] = [];
      const log: Log = { ...silentLog, error: (message) => lines.push(message) };
      const givers: readonly JobGiver[] = [
        {
          name: 'bad',
          on: {
            'tag.moved': (event) => {
              if (event.tag === 't1') throw new Error('never');
              if (event.tag === 't2' && ++asked < 3) throw new Error('not yet');
              return event.tag === 't3' ? [{ type: 'no-such-job', payload: 1 }] : [];
            },
          },
        },
        {
          name: 'good',
          jobs: [job('a', async (_c, payload) => void ran.push(payload))],
          on: { 'tag.moved': (event) => [{ type: 'a', payload: event.tag }] },
        },
      ];
      await database.run(testEmit, { events: [pushed(1), pushed(2), pushed(3)] });
      start(givers, { log });
      await until(() => ran.length === 3);
      assert.deepEqual(ran.sort(), ['t1', 't2', 't3']);
      assert.equal(asked, 3);
      assert.equal(lines.length, 2);
      assert.deepEqual(await database.query.all('select id from outbox limit 10'), []);
    }),
  );

  test(
    'a row that cannot be read is left out with a line; one of a newer program stays for it',
    on(async (database, start) => {
      const lines: string[] = [];
      const log: Log = { ...silentLog, error: (message) => lines.push(message) };
      await database.run(testOutbox, { type: 'tag.moved', payload: { nothing: true } });
      await database.run(testOutbox, { type: 'newer.event', payload: {} });
      const { idle } = start([{ name: 'test', on: { 'tag.moved': () => assert.fail('asked') } }], { log });
      await idle();
      assert.deepEqual(lines, ['an event cannot be read and is left out']);
      const left = await database.query.all<{ type: string }>('select type from outbox limit 10');
      assert.deepEqual(
        left.map(({ type }) => type),
        ['newer.event'],
      );
    }),
  );

  test(
    'several processes share the work: each event and each job is taken once',
    on(async (database, start) => {
      const ran: unknown[] = [];
      const giver: JobGiver = {
        name: 'test',
        jobs: [job('a', async (_c, payload) => void ran.push(payload))],
        on: { 'tag.moved': (event) => [{ type: 'a', payload: event.tag }] },
      };
      const all = [start([giver]), start([giver]), start([giver])];
      const events = Array.from({ length: 300 }, (_, n) => pushed(n));
      for (let at = 0; at < 300; at += 30) await database.run(testEmit, { events: events.slice(at, at + 30) });
      await Promise.all(all.map((jobs) => jobs.idle()));
      await until(async () => (await rowsOf(database)).length === 0);
      assert.equal(ran.length, 300);
      assert.equal(new Set(ran).size, 300);
    }),
  );
}
