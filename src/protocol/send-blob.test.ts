/** The pump: whole, in parts, from a stream, cut short, and with clients that go or stop reading. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import type { RandomReader } from '../kit/buffers.ts';
import { digestOf } from '../oci/digest.ts';
import { memoryRegistry } from '../registry/memory.ts';
import type { BlobContent, Registry } from '../registry/registry.ts';
import { serve } from './serve.testing.ts';

const SIZE = 3_000_000;
const bytes = Buffer.alloc(SIZE);
for (let i = 0; i < SIZE; i++) bytes[i] = (i * 31 + (i >> 8)) & 255;
const digest = digestOf(bytes);
const PATH = `/v2/a/blobs/${digest}`;

interface Counts {
  opened: number;
  readersClosed: number;
  closed: number;
}

/** A registry whose blob is read at positions (or only as a stream), with what it opened and closed. */
function counting(options: { stream?: boolean; failAt?: number; endAt?: number } = {}): {
  registry: Registry;
  counts: Counts;
} {
  const counts: Counts = { opened: 0, readersClosed: 0, closed: 0 };
  const inner = memoryRegistry();
  const end = options.endAt ?? SIZE;
  const reader: RandomReader = {
    async read(into, position) {
      await new Promise(setImmediate);
      if (options.failAt !== undefined && position >= options.failAt) throw new Error('the disk is gone');
      return bytes.copy(into, 0, position, Math.min(end, position + into.length));
    },
    async close() {
      counts.readersClosed++;
    },
  };
  const registry: Registry = {
    ...inner,
    resolveBlob: async () => ({ mediaType: 'application/octet-stream', digest, size: SIZE }),
    getBlob: async (_call, _repository, _digest, range = { start: 0, end: SIZE }): Promise<BlobContent> => ({
      descriptor: { mediaType: 'application/octet-stream', digest, size: SIZE },
      range: { start: range.start, end: Math.min(range.end, SIZE) },
      ...(options.stream === true
        ? {}
        : {
            openRandom: async () => {
              counts.opened++;
              await new Promise(setImmediate);
              return reader;
            },
          }),
      open: () => Readable.from([bytes.subarray(range.start, Math.min(range.end, end))], { objectMode: false }),
      close: () => void counts.closed++,
    }),
  };
  return { registry, counts };
}

for (const stream of [false, true]) {
  test(`a blob ${stream ? 'from a stream' : 'read at positions'}, whole and in part`, async () => {
    const { registry, counts } = counting({ stream });
    await using server = await serve({ registry });
    const whole = await server.send('GET', PATH);
    assert.ok(whole.body.equals(bytes));
    const part = await server.send('GET', PATH, { headers: { range: 'bytes=100-2000000' } });
    assert.equal(part.status, 206);
    assert.ok(part.body.equals(bytes.subarray(100, 2000001)));
    assert.equal(counts.closed, 2);
    assert.equal(counts.readersClosed, counts.opened);
    assert.equal(server.buffers.lentBytes, 0);
    assert.equal(server.buffers.transfers, 0);
    assert.deepEqual(
      server.lines.map((line) => line.bytes),
      [SIZE, 1999901],
    );
  });

  test(`a blob that ends early ${stream ? 'in its stream' : 'at its positions'} breaks the connection`, async () => {
    const { registry, counts } = counting({ stream, endAt: 1_000_000 });
    await using server = await serve({ registry });
    const answer = await server.raw(`GET ${PATH} HTTP/1.1\r\nHost: a\r\n\r\n`);
    assert.match(answer, /^HTTP\/1\.1 200 [\s\S]*Content-Length: 3000000\r\n/);
    assert.ok(answer.length < SIZE);
    assert.equal(counts.closed, 1);
    assert.match(server.logged[0]!, /ended before its length/);
  });
}

test('two connections on one: the next request is served after a blob', async () => {
  const { registry } = counting();
  await using server = await serve({ registry });
  const answer = await server.raw(
    `GET ${PATH} HTTP/1.1\r\nHost: a\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`,
  );
  assert.ok(answer.endsWith('{}'));
});

test('a read that fails at once is an error answer; later it breaks the connection', async () => {
  const first = counting({ failAt: 0 });
  await using early = await serve({ registry: first.registry });
  const answer = await early.send('GET', PATH);
  assert.equal(answer.status, 500);
  assert.equal(answer.code, 'UNKNOWN');
  const second = counting({ failAt: 1_000_000 });
  await using late = await serve({ registry: second.registry });
  const broken = await late.raw(`GET ${PATH} HTTP/1.1\r\nHost: a\r\n\r\n`);
  assert.match(broken, /^HTTP\/1\.1 200 /);
  assert.ok(broken.length < SIZE);
  for (const { counts } of [first, second]) assert.deepEqual(counts, { opened: 1, readersClosed: 1, closed: 1 });
  assert.match(late.logged[0]!, /the disk is gone/);
  assert.equal(late.buffers.lentBytes, 0);
});

test('clients that go at any time leave nothing open and nothing lent', async () => {
  const { registry, counts } = counting();
  await using server = await serve({ registry }, 64 * 1024);
  const rounds = 200;
  await Promise.all(
    Array.from({ length: rounds }, async (_, i) => {
      const socket = await server.socket();
      socket.write(`GET ${PATH} HTTP/1.1\r\nHost: a\r\n\r\n`);
      if (i % 4 === 0) {
        socket.destroy();
        return;
      }
      let left = (i * 15_013) % SIZE;
      for await (const chunk of socket) if ((left -= (chunk as Buffer).length) <= 0) break;
      socket.destroy();
    }),
  );
  while (counts.closed < server.lines.filter((line) => line.method === 'GET').length || server.buffers.transfers > 0) {
    await new Promise(setImmediate);
  }
  while (counts.readersClosed < counts.opened) await new Promise(setImmediate);
  assert.equal(server.buffers.lentBytes, 0);
  assert.deepEqual(server.logged, []);
});

test('who stops reading holds one buffer, and is cut off', async () => {
  const { registry, counts } = counting();
  await using server = await serve({ registry, limits: { minimumRate: { bytesPerSecond: 1000, milliseconds: 120 } } });
  const sockets = await Promise.all(Array.from({ length: 5 }, () => server.socket()));
  for (const socket of sockets) {
    socket.pause();
    for (let i = 0; i < 6; i++) socket.write(`GET ${PATH} HTTP/1.1\r\nHost: a\r\n\r\n`);
  }
  const ended = sockets.map((socket) => once(socket, 'close'));
  while (counts.closed < 5 || server.buffers.transfers > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  while (server.lines.length < 5) await new Promise((resolve) => setTimeout(resolve, 10));
  for (const socket of sockets) socket.destroy();
  await Promise.all(ended);
  assert.equal(server.buffers.lentBytes, 0);
  assert.ok(server.buffers.dropped >= 1, 'memory that the system may still read is not used again');
});
