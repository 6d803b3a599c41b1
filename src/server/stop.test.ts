import assert from 'node:assert/strict';
import { request } from 'node:http';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../kit/clock.ts';
import { silentLog } from '../kit/log.ts';
import { ask, started } from './listener.testing.ts';
import { stopper } from './stop.ts';

/** A PUT that is under way: `finish` sends the rest. */
function underWay(port: number): { finish: () => void; answered: Promise<string> } {
  let finish = (): void => undefined;
  const answered = new Promise<string>((resolve) => {
    const asked = request(
      { host: '127.0.0.1', port, path: '/v2/x', method: 'PUT', headers: { 'content-length': 2 } },
      (reply) => {
        let body = '';
        reply.on('data', (chunk: Buffer) => {
          body += chunk.toString();
        });
        reply.on('end', () => resolve(`${reply.statusCode} ${reply.headers.connection} ${body}`));
      },
    );
    asked.on('error', (error: NodeJS.ErrnoException) => resolve(`error ${error.code}`));
    asked.write('a');
    finish = () => asked.end('b');
  });
  return { finish, answered };
}

describe('stopping a listener', () => {
  test('transfers under way finish; nothing new is taken; idle connections go', async () => {
    const { listener, port } = await started();
    const idle = connect(port, '127.0.0.1');
    const idleClosed = new Promise<void>((resolve) => idle.on('close', () => resolve()));
    idle.on('error', () => undefined);
    const transfer = underWay(port);
    while (listener.underWay === 0) await sleep(5);
    const stopped = listener.stop(10_000);
    await assert.rejects(ask(port, '/v2/'), /ECONNREFUSED|ECONNRESET/);
    transfer.finish();
    assert.equal(await transfer.answered, '200 close protocol PUT /v2/x 2');
    assert.equal(await stopped, true);
    await idleClosed;
    assert.equal(listener.connections, 0);
  });

  test('what does not finish in time is cut off', async () => {
    const { listener, port } = await started();
    const transfer = underWay(port);
    while (listener.underWay === 0) await sleep(5);
    assert.equal(await listener.stop(50), false);
    assert.match(await transfer.answered, /error ECONNRESET/);
  });

  test('a second call shortens the first', async () => {
    const { listener, port } = await started();
    const transfer = underWay(port);
    while (listener.underWay === 0) await sleep(5);
    const first = listener.stop(600_000);
    assert.equal(await listener.stop(0), false);
    assert.equal(await first, false);
    assert.match(await transfer.answered, /error ECONNRESET/);
  });
});

describe('stopper', () => {
  test('not ready, then drain, then close in order, once; a failing close stops nothing', async () => {
    const seen: string[] = [];
    const stopping = stopper({
      notReadyMilliseconds: 1,
      drainMilliseconds: 7,
      notReady: () => void seen.push('not ready'),
      drain: async (milliseconds) => void seen.push(`drain ${milliseconds}`),
      close: [
        () => {
          seen.push('first');
          throw new Error('broken');
        },
        async () => void seen.push('second'),
      ],
      clock: systemClock,
      log: silentLog,
    });
    assert.equal(await stopping.stop(), false);
    assert.deepEqual(seen, ['not ready', 'drain 7', 'first', 'second']);
  });

  test('asked twice it does not wait', async () => {
    const drains: number[] = [];
    const stopping = stopper({
      notReadyMilliseconds: 600_000,
      drainMilliseconds: 600_000,
      notReady: () => undefined,
      drain: async (milliseconds) => void drains.push(milliseconds),
      close: [],
      clock: systemClock,
      log: silentLog,
    });
    const first = stopping.stop();
    assert.equal(await stopping.stop(), true);
    assert.equal(await first, true);
    assert.equal(drains[0], 0);
  });
});
