/** The client against real servers on this machine: what it refuses, what it follows, what travels, where it ends. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createSocketServer } from 'node:net';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { type FaultCode, FaultError } from '../oci/error.ts';
import { type OutboundClient, type OutboundOptions, outboundClient } from './client.ts';
import { isRefusedAddress } from './fault.ts';

interface Served extends AsyncDisposable {
  readonly port: number;
  readonly origin: string;
  /** What was asked, as `METHOD path`, with what came in each. */
  readonly asked: IncomingMessage[];
}

async function serve(answer: RequestListener): Promise<Served> {
  const asked: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    asked.push(request);
    answer(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    port,
    origin: `http://127.0.0.1:${port}`,
    asked,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

const OPEN: OutboundOptions = { allowPrivateAddresses: true };

async function withClient<T>(options: OutboundOptions, work: (client: OutboundClient) => Promise<T>): Promise<T> {
  const client = outboundClient(options);
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

async function fails(promise: Promise<unknown>, code: FaultCode, says?: RegExp): Promise<FaultError> {
  const error = await promise.then(
    () => assert.fail(`expected ${code}`),
    (error: unknown) => error,
  );
  assert.ok(error instanceof FaultError, String((error as Error).stack));
  assert.equal(error.code, code, error.message);
  if (says !== undefined) assert.match(error.message, says);
  return error;
}

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

test('no spelling of this machine is reached, and the server never sees a connection', async () => {
  let connections = 0;
  const sockets = createSocketServer((socket) => {
    connections++;
    socket.destroy();
  });
  sockets.listen(0, '127.0.0.1');
  await once(sockets, 'listening');
  const { port } = sockets.address() as AddressInfo;
  const hosts = [
    '127.0.0.1',
    '127.1',
    '127.0.1',
    '127.0.0.1.',
    '0x7f.1',
    '0x7f000001',
    '2130706433',
    '017700000001',
    '0177.0.0.1',
    '１２７.０.０.１',
    '127。0。0。1',
    '①②⑦.0.0.1',
    '%31%32%37.0.0.1',
    '0',
    '0.0.0.0',
    'localhost',
    'LOCALHOST',
    'localhost.',
    'ｌｏｃａｌｈｏｓｔ',
    'any.localhost',
    '[::1]',
    '[::]',
    '[0:0:0:0:0:0:0:1]',
    '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]',
    '[::127.0.0.1]',
    '[64:ff9b::7f00:1]',
    '[2002:7f00:1::]',
    '[fd00:ec2::254]',
    '[fe80::1]',
    '169.254.169.254',
    '10.0.0.1',
    '192.168.1.1',
    '100.64.0.1',
  ];
  await withClient({ limits: { total: 5_000 } }, async (client) => {
    for (const host of hosts) {
      const error = await fails(client.send({ url: `http://${host}:${port}/` }), 'unavailable');
      assert.ok(isRefusedAddress(error), `${host}: ${error.message}`);
    }
  });
  sockets.close();
  assert.equal(connections, 0);
});

test('what is not http or https, or has credentials in it, is not asked', async () => {
  await withClient(OPEN, async (client) => {
    for (const url of [
      'unix:/var/run/docker.sock',
      'http+unix://%2Fvar%2Frun%2Fdocker.sock/info',
      'file:///etc/passwd',
      'ftp://example.org/',
      'GOPHER://example.org/',
      'data:,x',
      'ws://example.org/',
      'http://user:secret@127.0.0.1/',
      'http://',
      'not a url',
      '/relative',
      'http://[::1%25lo]/',
      `http://127.0.0.1/${'x'.repeat(9_000)}`,
    ]) {
      const error = await fails(client.send({ url }), 'unavailable');
      assert.ok(!error.message.includes('secret') && error.message.length < 300, error.message);
    }
  });
});

test('the address that was judged is the one that is connected to, also when the name moves', async () => {
  await using server = await serve(hello);
  const answers = ['192.0.2.1', '127.0.0.1'];
  let asked = 0;
  const rebinding: OutboundOptions = {
    limits: { connect: 300, total: 3_000 },
    allowedNetworks: ['192.0.2.1'],
    resolve: async () => [{ address: answers[Math.min(asked++, 1)]!, family: 4 }],
  };
  await withClient(rebinding, async (client) => {
    const url = `http://rebind.example.org:${server.port}/`;
    const first = await client.send({ url }).catch((error: unknown) => error as FaultError);
    assert.ok(first instanceof FaultError && !isRefusedAddress(first), 'the open address was tried');
    assert.equal(asked, 1, 'one look-up for one connection');
    assert.ok(isRefusedAddress(await fails(client.send({ url }), 'unavailable')));
  });
  assert.equal(server.asked.length, 0);
});

test('of several addresses only open ones are tried; none is an error', async () => {
  await using server = await serve(hello);
  const to = (...addresses: string[]): OutboundOptions => ({
    allowedNetworks: ['127.0.0.1'],
    resolve: async () => addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
  });
  const url = `http://many.example.org:${server.port}/`;
  await withClient(to('10.0.0.1', '::1', '169.254.169.254', '127.0.0.1'), async (client) => {
    assert.equal(String(await (await client.send({ url })).bytes(10)), 'hello');
  });
  await withClient(to('10.0.0.1', '::1', '::ffff:127.0.0.1'), async (client) => {
    assert.ok(isRefusedAddress(await fails(client.send({ url }), 'unavailable')));
  });
  await withClient(to(), async (client) => {
    await fails(client.send({ url }), 'unavailable', /ENOTFOUND/);
  });
});

test('a redirect to a closed address is refused like any other', async () => {
  await using target = await serve(hello);
  await using server = await serve((request, response) => {
    response.writeHead(302, {
      location:
        request.url === '/name' ? `http://inside.example.org:${target.port}/` : `http://127.0.0.2:${target.port}/`,
    });
    response.end();
  });
  const options: OutboundOptions = {
    allowedNetworks: ['127.0.0.1'],
    resolve: async () => [{ address: '127.0.0.3', family: 4 }],
  };
  await withClient(options, async (client) => {
    for (const path of ['/name', '/literal']) {
      assert.ok(isRefusedAddress(await fails(client.send({ url: `${server.origin}${path}` }), 'unavailable')));
    }
  });
  assert.equal(target.asked.length, 0);
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
      const drip = setInterval(() => void response.write('x'), 150);
      response.on('close', () => clearInterval(drip));
    }
  });
  await withClient(OPEN, async (client) => {
    const limits = { headers: 200, stall: 200, total: 5_000 };
    await fails(client.send({ url: `${server.origin}/silent`, limits }), 'timeout', /did not answer/);
    const stalled = await client.send({ url: `${server.origin}/stalls`, limits });
    await fails(stalled.bytes(10), 'timeout', /nothing more/);
    const slow = await client.send({ url: `${server.origin}/drip`, limits: { stall: 5_000, total: 400 } });
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
    const endless = await client.send({ url: `${server.origin}/endless`, limits: { stall: 100, total: 200 } });
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
