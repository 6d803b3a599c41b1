import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { type Clock, systemClock } from '../kit/clock.ts';
import { silentLog } from '../kit/log.ts';
import { openMetrics } from '../telemetry/metrics.ts';
import { AdminError, adminSocket, askAdmin, serveAdmin } from './admin.ts';
import { peers } from './forwarded.ts';
import { openHealth } from './health.ts';
import { ask, started } from './listener.testing.ts';
import { metricsRoute } from './metrics.ts';
import { observer } from './observe.ts';

describe('health', () => {
  test('ready while every check passes; names what does not, never why; asked once a second', async () => {
    let now = 0;
    const clock: Clock = { ...systemClock, monotonic: () => now };
    let asked = 0;
    let broken = false;
    let stopping = false;
    const health = openHealth({
      checks: {
        database: async () => {
          asked++;
          if (broken) throw new Error('canary /secret/path');
        },
        storage: async () => undefined,
      },
      state: () => (stopping ? 'stopping' : undefined),
      clock,
      log: silentLog,
    });
    const { listener, port } = await started({
      routes: new Map([
        ['/livez', health.livez],
        ['/readyz', health.readyz],
      ]),
    });
    assert.deepEqual(await ask(port, '/readyz').then(({ status, body }) => [status, body]), [
      200,
      '{"status":"ready"}',
    ]);
    await ask(port, '/readyz');
    assert.equal(asked, 1);
    broken = true;
    now = 2_000;
    const unwell = await ask(port, '/readyz');
    assert.deepEqual(
      [unwell.status, unwell.body, unwell.headers['retry-after']],
      [503, '{"status":"not ready","reasons":["database"]}', '2'],
    );
    assert.equal((await ask(port, '/livez')).status, 200);
    broken = false;
    now = 4_000;
    assert.equal((await ask(port, '/readyz')).status, 200);
    stopping = true;
    assert.equal((await ask(port, '/readyz')).body, '{"status":"not ready","reasons":["stopping"]}');
    assert.equal((await ask(port, '/livez')).status, 200);
    const post = await ask(port, '/readyz', { method: 'POST' });
    assert.deepEqual([post.status, post.headers.allow], [405, 'GET, HEAD']);
    const head = await ask(port, '/livez', { method: 'HEAD' });
    assert.deepEqual([head.status, head.body, head.headers['content-length']], [200, '', '17']);
    await listener.stop(1_000);
  });

  test('a check that never answers is not waited for', async () => {
    const clock: Clock = { now: () => 0, monotonic: () => 0, sleep: async () => undefined };
    const health = openHealth({
      checks: { storage: () => new Promise(() => undefined) },
      state: () => undefined,
      clock,
      log: silentLog,
    });
    assert.deepEqual(await health.reasons(), ['storage']);
  });
});

describe('metrics route', () => {
  const text = (): string => 'metrics';

  test('without a token: this machine, but not who was passed on', async () => {
    const peerOf = peers([]);
    const { listener, port } = await started({ routes: new Map([['/metrics', metricsRoute({ text, peerOf })]]) });
    assert.equal((await ask(port, '/metrics')).body, 'metrics');
    for (const name of ['x-forwarded-for', 'forwarded', 'via', 'x-real-ip']) {
      assert.equal((await ask(port, '/metrics', { headers: { [name]: '127.0.0.1' } })).status, 403, name);
    }
    await listener.stop(1_000);
    const trusting = peers(['127.0.0.1']);
    const second = await started({ routes: new Map([['/metrics', metricsRoute({ text, peerOf: trusting })]]) });
    assert.equal((await ask(second.port, '/metrics', { headers: { 'x-forwarded-for': '1.2.3.4' } })).status, 403);
    assert.equal((await ask(second.port, '/metrics', { headers: { 'x-forwarded-for': '::1' } })).status, 200);
    await second.listener.stop(1_000);
  });

  test('with a token: whoever has it', async () => {
    const { listener, port } = await started({
      routes: new Map([['/metrics', metricsRoute({ text, token: 'long-enough-token' })]]),
    });
    assert.equal((await ask(port, '/metrics')).status, 401);
    assert.equal((await ask(port, '/metrics', { headers: { authorization: 'Bearer wrong' } })).status, 401);
    assert.equal((await ask(port, '/metrics', { headers: { authorization: 'Bearer long-enough-token' } })).status, 200);
    await listener.stop(1_000);
  });

  test('random paths, methods and agents make no new series', async () => {
    const metrics = openMetrics();
    const observe = observer({ metrics, clock: systemClock, peerOf: peers([]), accessLog: undefined });
    const { listener, port } = await started({ observe });
    const series = (): number =>
      metrics
        .text()
        .split('\n')
        .filter((line) => line.startsWith('longshore_other')).length;
    for (const method of ['GET', 'PROPFIND']) await ask(port, '/x', { method });
    const before = series();
    for (let index = 0; index < 50; index++) {
      const method = ['GET', 'MKCOL', 'LOCK', 'SEARCH'][index % 4]!;
      await ask(port, `/${index}/metrics`, { method, headers: { 'user-agent': `agent ${index}` } });
    }
    assert.equal(series(), before);
    await listener.stop(1_000);
  });
});

describe('admin socket', () => {
  test('commands by name, refusals with their message, failures without; 0600; nobody there', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'longshore-admin-'));
    assert.equal(await askAdmin(folder, 'double', 1), undefined);
    const commands = {
      double: async (value: unknown) => Number(value) * 2,
      refuse: async () => {
        throw Object.assign(new Error('because'), { status: 409 });
      },
      fail: async () => {
        throw new Error('canary');
      },
    };
    const end = await serveAdmin(folder, commands, silentLog);
    assert.equal(statSync(adminSocket(folder)).mode & 0o777, 0o600);
    assert.deepEqual(await askAdmin(folder, 'double', 21), { result: 42 });
    await assert.rejects(
      askAdmin(folder, 'refuse', {}),
      (error) => error instanceof AdminError && error.message === 'because',
    );
    await assert.rejects(askAdmin(folder, 'fail', {}), (error: Error) => !/canary/.test(error.message));
    await assert.rejects(askAdmin(folder, 'constructor', {}), AdminError);
    await assert.rejects(askAdmin(folder, 'double', 'x'.repeat(100_000)), AdminError);
    const wrong = await new Promise<number>((resolve) => {
      request({ socketPath: adminSocket(folder), path: '/double', method: 'POST' }, (reply) =>
        resolve(reply.statusCode ?? 0),
      ).end('{');
    });
    assert.equal(wrong, 400);
    await end();
    assert.equal(await askAdmin(folder, 'double', 1), undefined);
    // A socket that a killed server left over is replaced.
    const again = await serveAdmin(folder, commands, silentLog);
    await again();
    rmSync(folder, { recursive: true });
  });
});
