import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FaultError } from '../../oci/error.ts';
import { vigil } from './vigil.ts';

const never = (): Promise<never> => new Promise(() => undefined);
const AN_HOUR = 3_600_000;

test('a long request ends when the store as a whole does not answer', async () => {
  let asked = 0;
  const watched = vigil(
    () => {
      asked++;
      return never();
    },
    { wait: 5, limit: 20 },
  );
  const aborted: boolean[] = [];
  const work = (signal: AbortSignal): Promise<never> => {
    signal.addEventListener('abort', () => aborted.push(true));
    return never();
  };
  const both = await Promise.allSettled([watched(AN_HOUR, 'store', work), watched(AN_HOUR, 'store', work)]);
  for (const one of both) {
    assert.ok(one.status === 'rejected' && one.reason instanceof FaultError);
    assert.equal(one.reason.code, 'unavailable');
    assert.match(one.reason.message, /does not answer any more/);
  }
  assert.equal(aborted.length, 2);
  assert.equal(asked, 1, 'they share what they ask');
});

test('whatever the store answers, the long request goes on', async () => {
  let asked = 0;
  let done: ((value: string) => void) | undefined;
  const watched = vigil(
    async () => {
      if (++asked === 4) done?.('stored');
      if (asked % 2 === 0) throw new Error('403');
    },
    { wait: 1, limit: 1000 },
  );
  const work = (): Promise<string> =>
    new Promise((resolve) => {
      done = resolve;
    });
  assert.equal(await watched(AN_HOUR, 'store', work), 'stored');
  assert.equal(asked, 4);
});

test('its own limit and its own failure hold as ever', async () => {
  const watched = vigil(async () => undefined, { wait: 1, limit: 10 });
  await assert.rejects(watched(20, 'store', never), /did not answer within/);
  await assert.rejects(
    watched(AN_HOUR, 'store', async () => {
      throw new Error('refused');
    }),
    /refused/,
  );
});
