import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, createServer as createPlain } from 'node:net';
import { after, describe, test } from 'node:test';
import type { OpenedBody } from '../objects/store.ts';
import { lines } from './lines.ts';

const bytes = Buffer.alloc(3_000_001);
for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.writeUInt32LE(at, at);

/** A store of one object that counts its connections. */
const object: RequestListener = (request, response) => {
  const asked = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
  if (request.url !== '/b/object?signed') {
    response.writeHead(404).end('<Error><Code>NoSuchKey</Code></Error>');
    return;
  }
  const [start, end] = asked === null ? [0, bytes.length] : [Number(asked[1]), Number(asked[2]) + 1];
  const range = asked === null ? {} : { 'content-range': `bytes ${start}-${end - 1}/${bytes.length}` };
  response.writeHead(asked === null ? 200 : 206, { ...range, 'content-length': end - start });
  response.end(bytes.subarray(start, end));
};

async function all(body: OpenedBody, size = 100_000): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (;;) {
    const into = Buffer.alloc(size);
    const read = await body.read(into);
    if (read === 0) return Buffer.concat(parts);
    parts.push(into.subarray(0, read));
  }
}

describe('bodies straight from the connection', () => {
  const ending: (() => void)[] = [];
  after(() => {
    for (const end of ending) end();
  });

  async function served(listener: RequestListener): Promise<{ server: Server; address: URL; connections(): number }> {
    const server = createServer(listener).listen(0, '127.0.0.1');
    let connections = 0;
    server.on('connection', () => connections++);
    await once(server, 'listening');
    ending.push(
      () => server.closeAllConnections(),
      () => void server.close(),
    );
    const address = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/b/object?signed`);
    return { server, address, connections: () => connections };
  }

  /** A server that answers with exactly these bytes, and then does nothing or ends. */
  async function saying(text: string, end: boolean): Promise<URL> {
    const server = createPlain((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => (end ? socket.end(text) : socket.write(text)));
      ending.push(() => socket.destroy());
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    ending.push(() => void server.close());
    return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/x`);
  }

  const never = new AbortController().signal;

  test('whole and in ranges, over one connection that is used again', async () => {
    const { address, connections } = await served(object);
    const opened = lines(undefined);
    for (const range of [
      undefined,
      { start: 0, end: bytes.length },
      { start: 7, end: 8 },
      { start: 999_999, end: 2_000_003 },
    ]) {
      const body = (await opened.open(address, range, never))!;
      assert.equal(body.size, bytes.length);
      const expected = range === undefined ? bytes : bytes.subarray(range.start, range.end);
      assert.equal(body.length, expected.length);
      assert((await all(body)).equals(expected));
      assert.equal(await body.read(Buffer.alloc(1)), 0);
      body.close();
    }
    assert.equal(connections(), 1);
    opened.close();
  });

  test('many at once do not mix', async () => {
    const { address } = await served(object);
    const opened = lines(undefined);
    const bodies = Array.from({ length: 20 }, async (_, at) => {
      const range = { start: at * 1000, end: bytes.length - at };
      const body = (await opened.open(address, range, never))!;
      assert((await all(body, 5000 + at * 7919)).equals(bytes.subarray(range.start, range.end)));
    });
    await Promise.all(bodies);
    opened.close();
  });

  test('another status, an answer without a length, nobody there: left to others', async () => {
    const { address, server } = await served(object);
    const opened = lines(undefined);
    assert.equal(await opened.open(new URL('/b/other', address), undefined, never), undefined);
    const odd = [
      'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nabc',
      'HTTP/1.1 200 OK\r\n\r\nabc',
      'HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\nabc',
      'HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-encoding: gzip\r\n\r\nabc',
      'SSH-2.0-OpenSSH\r\n\r\n',
      `HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(10_000)}`,
    ];
    for (const text of odd) assert.equal(await opened.open(await saying(text, true), undefined, never), undefined);
    const whole = await saying('HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc', true);
    assert.equal(await opened.open(whole, { start: 1, end: 2 }, never), undefined);
    const wrong = await saying('HTTP/1.1 206 P\r\ncontent-length: 1\r\ncontent-range: bytes 0-0/3\r\n\r\na', true);
    assert.equal(await opened.open(wrong, { start: 1, end: 2 }, never), undefined);
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
    assert.equal(await opened.open(address, undefined, never), undefined);
    opened.close();
  });

  test('a signal ends what waits for its head', async () => {
    const opened = lines(undefined);
    const address = await saying('HTTP/1.1 200 OK\r\n', false);
    const control = new AbortController();
    const opening = opened.open(address, undefined, control.signal);
    control.abort();
    assert.equal(await opening, undefined);
    assert.equal(await opened.open(address, undefined, control.signal), undefined);
    opened.close();
  });

  test('a body that breaks off rejects behind its last bytes; closing ends a read that waits', async () => {
    const opened = lines(undefined);
    const short = await saying('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc', true);
    const broken = (await opened.open(short, undefined, never))!;
    await assert.rejects(all(broken));
    broken.close();
    const stalled = (await opened.open(
      await saying('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n', false),
      undefined,
      never,
    ))!;
    const waiting = stalled.read(Buffer.alloc(9));
    stalled.close();
    await assert.rejects(waiting);
    opened.close();
  });

  test('bytes beyond the length belong to nobody, and their connection is not used again', async () => {
    const opened = lines(undefined);
    const address = await saying('HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n', false);
    const body = (await opened.open(address, undefined, never))!;
    assert.equal((await all(body)).toString(), 'abc');
    const next = (await opened.open(address, undefined, never))!;
    assert.equal((await all(next)).toString(), 'abc');
    opened.close();
  });
});
