import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { systemClock } from '../kit/clock.ts';
import { silentLog } from '../kit/log.ts';
import { type AccessEntry, accessLine, openAccessLog } from './access-log.ts';
import { openLog } from './log.ts';
import { metricsText, openMetrics, processMetrics } from './metrics.ts';
import { openTracing } from './trace.ts';

/** Waits until the file is there: it is opened when the system comes to it. */
async function isThere(path: string): Promise<void> {
  for (let tries = 0; !existsSync(path); tries++) {
    if (tries === 500) throw new Error(`${path} never came`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const folder = mkdtempSync(join(tmpdir(), 'longshore-telemetry-'));
after(() => rmSync(folder, { recursive: true }));

const entry: AccessEntry = {
  requestId: 'r-1',
  method: 'GET',
  path: '/v2/a/manifests/latest',
  status: 200,
  bytes: 10,
  milliseconds: 1.234,
  user: 'ann',
  address: '127.0.0.1',
  userAgent: 'curl',
};
const HOSTILE = 'a\r\n{"level":"error"}\u001b[31m\u009b31m\u2028\u202e\u0000"\\';

describe('log', () => {
  const written = (level: 'debug' | 'info' = 'info') => {
    const lines: string[] = [];
    return { lines, log: openLog({ level, stream: { write: (line) => void lines.push(line) } }) };
  };

  test('one JSON object a line, with level, time and fields; below the level nothing', () => {
    const { lines, log } = written();
    log.debug('no');
    log.child({ requestId: 'r' }).info('yes', { size: 3, absent: undefined });
    assert.equal(lines.length, 1);
    const line = JSON.parse(lines[0]!) as Record<string, unknown>;
    assert.deepEqual(
      { ...line, time: undefined },
      { level: 'info', time: undefined, requestId: 'r', size: 3, msg: 'yes' },
    );
    log.setLevel('debug');
    log.debug('now');
    assert.equal(lines.length, 2);
  });

  test('whatever is logged stays one line without control characters', () => {
    const { lines, log } = written();
    log.warn(HOSTILE, { agent: HOSTILE, error: new Error(HOSTILE) });
    assert.equal(lines.length, 1);
    assert.match(lines[0]!, /^[^\x00-\x1f\x7f-\x9f\u2028-\u202e]*\n$/);
    assert.equal((JSON.parse(lines[0]!) as { agent: string }).agent, HOSTILE);
  });

  test('what looks like a credential is not written', () => {
    const { lines, log } = written();
    const secret = 'canary1234567890';
    log.error(`failed with Authorization: Basic ${secret}`, {
      authorization: secret,
      dbPassword: secret,
      url: `https://user:${secret}@host/x?X-Amz-Signature=${secret}&token=${secret}`,
      error: new Error(`Bearer ${secret}`, { cause: new Error(`postgres://a:${secret}@b`) }),
    });
    assert.doesNotMatch(lines.join(''), /canary/);
  });

  test('errors carry their causes, at most a few', () => {
    const { lines, log } = written();
    let error = new Error('deepest');
    for (let depth = 0; depth < 100; depth++) error = new Error(`level ${depth}`, { cause: error });
    log.error('x', { error });
    assert.ok(lines[0]!.length < 100_000);
    assert.match(lines[0]!, /level 99/);
    assert.doesNotMatch(lines[0]!, /deepest/);
  });
});

describe('access log', () => {
  test('a hostile request is one line of bounded length', () => {
    const line = accessLine(
      {
        ...entry,
        method: HOSTILE,
        path: `/v2/${HOSTILE}${'x'.repeat(9_000)}`,
        userAgent: HOSTILE.repeat(100),
        user: HOSTILE,
      },
      0,
    );
    assert.match(line, /^[^\x00-\x1f\x7f-\x9f\u2028-\u202e]*\n$/);
    assert.ok(line.length < 8_192, String(line.length));
    const parsed = JSON.parse(line) as { user: string; time: string };
    assert.equal(parsed.user, HOSTILE);
    assert.equal(parsed.time, '1970-01-01T00:00:00.000Z');
  });

  test('credentials in a query are masked', () => {
    assert.doesNotMatch(
      accessLine({ ...entry, path: '/token?password=canary&scope=x&access_token=canary' }, 1),
      /canary/,
    );
  });

  test('written at close at the latest, and to a new file after reopen', async () => {
    const path = join(folder, 'access.log');
    const log = openAccessLog(path, silentLog, systemClock);
    for (let index = 0; index < 100; index++) log.write({ ...entry, requestId: `r-${index}` });
    await isThere(path);
    renameSync(path, `${path}.1`);
    log.reopen();
    await isThere(path);
    log.write({ ...entry, requestId: 'last' });
    await log.close();
    log.write(entry);
    const lines = (readFileSync(`${path}.1`, 'utf8') + readFileSync(path, 'utf8')).trimEnd().split('\n');
    assert.equal(lines.length, 101);
    assert.match(readFileSync(path, 'utf8'), /"requestId":"last"/);
  });

  test('a full disk under it hurts nobody: it is said once, memory stays bounded, and it can be closed', async () => {
    const errors: string[] = [];
    const log = openAccessLog(
      '/dev/full',
      { ...silentLog, error: (message) => void errors.push(message) },
      systemClock,
    );
    for (let index = 0; index < 200; index++) {
      for (let line = 0; line < 50; line++) log.write(entry);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await log.close();
    assert.deepEqual(errors, ['the access log cannot be written']);
  });

  test('a log on a full disk does not throw at whoever writes to it', () => {
    const log = openLog({ level: 'info', to: '/dev/full' });
    for (let line = 0; line < 1_000; line++) log.info('a line', { text: 'x'.repeat(2_000) });
  });
});

describe('metrics', () => {
  test('text of counters, gauges and histograms', () => {
    const metrics = openMetrics();
    const count = metrics.counter('longshore_things_total', 'Things.');
    count(1, { kind: 'a' });
    count(2, { kind: 'a' });
    metrics.gauge('longshore_level', 'Level.')(5);
    metrics.gauge('longshore_level', 'Level.')(3);
    const time = metrics.histogram('longshore_time_seconds', 'Time.', [0.1, 1]);
    for (const value of [0.05, 0.1, 0.5, 2]) time(value);
    assert.equal(
      metrics.text(),
      `# HELP longshore_things_total Things.
# TYPE longshore_things_total counter
longshore_things_total{kind="a"} 3
# HELP longshore_level Level.
# TYPE longshore_level gauge
longshore_level 3
# HELP longshore_time_seconds Time.
# TYPE longshore_time_seconds histogram
longshore_time_seconds_bucket{le="0.1"} 2
longshore_time_seconds_bucket{le="1"} 3
longshore_time_seconds_bucket{le="+Inf"} 4
longshore_time_seconds_sum 2.65
longshore_time_seconds_count 4
`,
    );
    assert.throws(() => metrics.gauge('longshore_things_total', ''), /two kinds/);
    assert.throws(() => metrics.gauge('Bad Name', ''), /not a metric/);
  });

  test('label sets are bounded: what comes beyond is counted as other', () => {
    const metrics = openMetrics();
    const count = metrics.counter('longshore_x_total', 'X.');
    for (let index = 0; index < 10_000; index++) count(1, { name: `n${index}`, quoted: '"\\\n' });
    const lines = metrics
      .text()
      .split('\n')
      .filter((line) => line.startsWith('longshore_x_total'));
    assert.ok(lines.length <= 251, String(lines.length));
    assert.ok(lines.includes('longshore_x_total{name="other",quoted="other"} 9750'));
    assert.equal(lines[0], 'longshore_x_total{name="n0",quoted="\\"\\\\\\n"} 1');
  });

  test('several processes add up', () => {
    const both = [1, 2].map((value) => {
      const metrics = openMetrics();
      metrics.counter('longshore_c_total', 'C.')(value, { a: 'x' });
      metrics.histogram('longshore_h_seconds', 'H.', [1])(value);
      return metrics.snapshot();
    });
    const text = metricsText(both);
    assert.match(text, /longshore_c_total\{a="x"\} 3/);
    assert.match(text, /longshore_h_seconds_bucket\{le="1"\} 1/);
    assert.match(text, /longshore_h_seconds_count 2/);
  });

  test('the process tells of itself', () => {
    const metrics = openMetrics();
    processMetrics(metrics, '1.2.3');
    assert.match(metrics.text(), /longshore_build_info\{version="1\.2\.3",node="v\d+/);
    assert.match(metrics.text(), /process_resident_memory_bytes [1-9]\d{6}/);
  });
});

describe('traces', () => {
  test('spans are sent with their parents; a broken receiver harms nothing', async () => {
    const bodies: string[] = [];
    const receiver = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        bodies.push(Buffer.concat(chunks).toString('utf8'));
        response.setHeader('content-type', 'application/json').end('{}');
      });
    });
    await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
    const endpoint = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/v1/traces`;
    const tracing = await openTracing({ endpoint, sampleRatio: 1, version: '1' }, silentLog);
    const traceId = 'a'.repeat(32);
    const request = tracing.request('GET manifest', `00-${traceId}-${'b'.repeat(16)}-01`);
    request.set('http.response.status_code', 200);
    request.within(() =>
      tracing.span('registry.getManifest').end(Object.assign(new Error('secret text'), { code: 'X' })),
    );
    request.end();
    tracing.request('bad parent', 'nonsense').end();
    await tracing.close();
    receiver.close();
    const sent = JSON.parse(bodies.join('')) as {
      resourceSpans: {
        scopeSpans: { spans: { name: string; traceId: string; spanId: string; parentSpanId?: string }[] }[];
      }[];
    };
    const spans = sent.resourceSpans.flatMap((one) => one.scopeSpans).flatMap((one) => one.spans);
    const outer = spans.find((span) => span.name === 'GET manifest')!;
    const inner = spans.find((span) => span.name === 'registry.getManifest')!;
    assert.equal(outer.traceId, traceId);
    assert.equal(outer.parentSpanId, 'b'.repeat(16));
    assert.equal(inner.traceId, traceId);
    assert.equal(inner.parentSpanId, outer.spanId);
    assert.notEqual(spans.find((span) => span.name === 'bad parent')!.traceId, traceId);
    assert.doesNotMatch(bodies.join(''), /secret text/);
    assert.match(bodies.join(''), /"longshore"/);
  });
});
