/** The client against real servers on this machine: what it follows, what travels, where it ends. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { fails, OPEN, serve, withClient } from './client.testing.ts';

const hello: RequestListener = (_request, response) => void response.end('hello');

test('an answer comes whole, with its headers', async () => {
  await using server = await serve((request, response) => {
    response.setHeader('x-two', ['a', 'b']);
    response.statusCode = 418;
    response.end(`${request.method} ${request.url} ${request.headers['accept-encoding']}`);
  });
  await withClient(OPEN, async (client) => {
    const answer = await client.send({ url: `${server.origin}/a?b#c` });
    assert.equal(answer.status, 418);
    assert.deepEqual(answer.headers('x-two').join().replaceAll(' ', ''), 'a,b');
    assert.equal(answer.header('x-none'), undefined);
    assert.equal(String(await answer.bytes(100)), 'GET /a?b identity');
  });
});

test('secrets stay at their origin, and do not come back when it does', async () => {
  await using other = await serve((request, response) => {
    response.writeHead(307, { location: `${request.url?.slice(1)}` });
    response.end();
  });
  await using server = await serve((request, response) => {
    if (request.url === '/same') response.writeHead(302, { location: '/end' });
    else if (request.url === '/port') response.writeHead(302, { location: `${other.origin}/${server.origin}/end` });
    else if (request.url === '/host') {
      response.writeHead(302, { location: `http://localhost:${server.port}/end` });
    }
    response.end();
  });
  const secrets = {
    authorization: 'Bearer s3cret',
    cookie: 'a=s3cret',
    'proxy-authorization': 'Basic s3cret',
    accept: 'x/y',
  };
  await withClient({ ...OPEN, resolve: async () => [{ address: '127.0.0.1', family: 4 }] }, async (client) => {
    const last = async (path: string): Promise<IncomingMessage> => {
      const answer = await client.send({ url: `${server.origin}${path}`, headers: secrets });
      await answer.bytes(100);
      return server.asked.at(-1)!;
    };
    assert.equal((await last('/same')).headers.authorization, 'Bearer s3cret');
    for (const path of ['/port', '/host']) {
      const { headers, url } = await last(path);
      assert.equal(url, '/end');
      assert.equal(headers.accept, 'x/y');
      assert.ok(!JSON.stringify(headers).includes('s3cret'), path);
    }
    assert.ok(!JSON.stringify(other.asked[0]!.headers).includes('s3cret'));
  });
});

test('five hops and no more; POST is not redirected', async () => {
  await using server = await serve((request, response) => {
    const left = Number(request.url?.slice(1));
    if (left > 0) response.writeHead(301, { location: `/${left - 1}` });
    response.end('done');
  });
  await withClient(OPEN, async (client) => {
    const answer = await client.send({ url: `${server.origin}/5` });
    assert.equal(answer.url.pathname, '/0');
    assert.equal(String(await answer.bytes(10)), 'done');
    await fails(client.send({ url: `${server.origin}/6` }), 'unavailable', /more than 5/);
    const posted = await client.send({ url: `${server.origin}/3`, method: 'POST', body: Buffer.from('x') });
    assert.equal(posted.status, 301);
    posted.close();
    const kept = await client.send({ url: `${server.origin}/3`, redirects: false });
    assert.equal(kept.header('location'), '/2');
    kept.close();
  });
});

test('redirects to other schemes and with credentials are refused, and no error shows a query', async () => {
  await using server = await serve((request, response) => {
    const to = decodeURIComponent(request.url?.slice(1) ?? '');
    response.writeHead(302, { location: to });
    response.end();
  });
  await withClient(OPEN, async (client) => {
    for (const to of [
      'unix:/var/run/docker.sock',
      'file:///etc/passwd',
      'http://a:hush@127.0.0.1/',
      'http://[',
      'http://127.0.0.1:1/?X-Signature=hush',
    ]) {
      const error = await fails(client.send({ url: `${server.origin}/${encodeURIComponent(to)}` }), 'unavailable');
      assert.ok(!error.message.includes('hush'), error.message);
    }
  });
});

test('each limit of time ends it: headers, a stalled body, and all of it', async () => {
  await using server = await serve((request, response) => {
    if (request.url === '/silent') return;
    response.writeHead(200, { 'content-length': '10' });
    response.write('abc');
    if (request.url === '/drip') {
      const drip = setInterval(() => void response.write('x'), 500);
      response.on('close', () => clearInterval(drip));
    }
  });
  await withClient(OPEN, async (client) => {
    const limits = { headers: 200, stall: 200, total: 60_000 };
    // Where headers come, they have the time that a busy machine needs.
    const patient = { ...limits, headers: 60_000 };
    await fails(client.send({ url: `${server.origin}/silent`, limits }), 'timeout', /did not answer/);
    const stalled = await client.send({ url: `${server.origin}/stalls`, limits: patient });
    await fails(stalled.bytes(10), 'timeout', /nothing more/);
    const slow = await client.send({ url: `${server.origin}/drip`, limits: { stall: 60_000, total: 1_500 } });
    await fails(slow.bytes(10), 'timeout', /did not finish/);
    await fails(client.send({ url: `${server.origin}/silent`, limits: { total: 200 } }), 'timeout', /did not finish/);
  });
});

test('a body is bounded, and one that breaks off or is encoded is an error', async () => {
  await using server = await serve((request, response) => {
    if (request.url === '/endless') {
      const more = (): void => {
        while (response.write(Buffer.alloc(65_536)));
        response.once('drain', more);
      };
      more();
    } else if (request.url === '/gzip') {
      response.writeHead(200, { 'content-encoding': 'gzip' });
      response.end('whatever');
    } else {
      response.writeHead(200, { 'content-length': '10' });
      response.write('abc', () => response.destroy());
    }
  });
  await withClient(OPEN, async (client) => {
    await fails((await client.send({ url: `${server.origin}/endless` })).bytes(100_000), 'corrupt', /100000 bytes/);
    await fails(client.send({ url: `${server.origin}/gzip` }), 'corrupt', /encoding/);
    await fails((await client.send({ url: `${server.origin}/broken` })).bytes(100), 'unavailable');
    const unread = await client.send({ url: `${server.origin}/broken` });
    await new Promise((resolve) => unread.body.once('close', resolve));
    await fails(unread.bytes(100), 'unavailable');
  });
});

test('too many at once are refused, and places come back however a request ends', async () => {
  await using server = await serve((request, response) => {
    if (request.url === '/silent') return;
    response.writeHead(200);
    response.write('abc');
    if (request.url === '/whole') response.end();
  });
  await withClient({ ...OPEN, concurrency: 2 }, async (client) => {
    for (let round = 0; round < 3; round++) {
      const open = await client.send({ url: `${server.origin}/open` });
      const stop = new AbortController();
      const silent = client.send({ url: `${server.origin}/silent`, signal: stop.signal });
      await fails(client.send({ url: server.origin }), 'full');
      stop.abort(new Error('stopped'));
      await assert.rejects(silent, /stopped/);
      open.close();
      await once(open.body, 'close');
      assert.equal(String(await (await client.send({ url: `${server.origin}/whole` })).bytes(9)), 'abc');
    }
  });
});

test('a kept connection that was closed meanwhile is not an error for what changes nothing', async () => {
  const answered = new WeakSet<object>();
  await using server = await serve((request, response) => {
    // The second request of a connection finds it closed.
    if (answered.has(request.socket)) request.socket.destroy();
    else response.end('hello');
    answered.add(request.socket);
  });
  await withClient({ ...OPEN, connections: 1 }, async (client) => {
    const ask = async (method: string): Promise<string> =>
      String(await (await client.send({ url: server.origin, method })).bytes(10));
    assert.equal(await ask('GET'), 'hello');
    assert.equal(await ask('GET'), 'hello');
    await fails(ask('POST'), 'unavailable', /UND_ERR_SOCKET/);
  });
  await using never = await serve((request) => void request.socket.destroy());
  await withClient(OPEN, async (client) => {
    await fails(client.send({ url: never.origin }), 'unavailable');
    assert.equal(never.asked.length, 2);
  });
});

test('an answer that nobody reads keeps its connection where it is short, and ends where it is not', async () => {
  const sockets = new Set<object>();
  await using server = await serve((request, response) => {
    sockets.add(request.socket);
    if (request.url === '/endless') {
      response.write('x');
      response.on('close', () => response.destroy());
    } else setTimeout(() => response.end('rest'), 5);
    response.flushHeaders();
  });
  await withClient({ ...OPEN, concurrency: 1 }, async (client) => {
    for (let i = 0; i < 5; i++) {
      const answer = await client.send({ url: server.origin });
      answer.close();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.equal(sockets.size, 1);
    const endless = await client.send({ url: `${server.origin}/endless`, limits: { stall: 500, total: 60_000 } });
    endless.close();
    await once(server.asked.at(-1)!.socket, 'close');
    assert.equal(String(await (await client.send({ url: server.origin })).bytes(10)), 'rest');
  });
});

test('an abort reaches a body under way', async () => {
  await using server = await serve((_request, response) => void response.write('abc'));
  await withClient(OPEN, async (client) => {
    const stop = new AbortController();
    const answer = await client.send({ url: server.origin, signal: stop.signal });
    const read = answer.body.toArray();
    stop.abort(new Error('enough'));
    await assert.rejects(read, /enough/);
    await assert.rejects(client.send({ url: server.origin, signal: stop.signal }), /enough/);
  });
});

test('no proxy and no credentials come from the environment', async () => {
  await using proxy = await serve(hello);
  await using server = await serve((request: IncomingMessage, response: ServerResponse) => {
    response.end(request.headers.authorization ?? 'none');
  });
  const before = { ...process.env };
  Object.assign(process.env, {
    http_proxy: proxy.origin,
    HTTP_PROXY: proxy.origin,
    all_proxy: proxy.origin,
    NODE_USE_ENV_PROXY: '1',
  });
  try {
    await withClient(OPEN, async (client) => {
      assert.equal(String(await (await client.send({ url: server.origin })).bytes(100)), 'none');
    });
  } finally {
    for (const name of ['http_proxy', 'HTTP_PROXY', 'all_proxy', 'NODE_USE_ENV_PROXY']) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  }
  assert.equal(proxy.asked.length, 0);
});

test('a body is sent, whole or as a stream', async () => {
  await using server = await serve(async (request, response) => {
    response.end(
      `${request.method} ${request.headers['content-length']} ${String(Buffer.concat(await request.toArray()))}`,
    );
  });
  await withClient(OPEN, async (client) => {
    const put = async (body: Uint8Array | Readable, headers = {}): Promise<string> =>
      String(await (await client.send({ url: server.origin, method: 'PUT', body, headers })).bytes(100));
    assert.equal(await put(Buffer.from('abc')), 'PUT 3 abc');
    assert.equal(
      await put(Readable.from([Buffer.from('ab'), Buffer.from('c')]), { 'content-length': '3' }),
      'PUT 3 abc',
    );
  });
});
