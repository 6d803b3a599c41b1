import assert from 'node:assert/strict';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLog } from '../kit/log.ts';
import { answer } from './answer.ts';
import { openApplication } from './application.ts';
import { isProtocol } from './http.ts';
import { ask, DEFAULT_LIMITS, raw, started } from './listener.testing.ts';

describe('listener', () => {
  test('the raw target decides what is the protocol’s', async () => {
    for (const url of ['/v2', '/v2/', '/v2?n=1', '/v2/%zz']) assert.ok(isProtocol(url), url);
    for (const url of ['/%76%32/x', '/V2/', '/../v2/', '//v2/', '/v2x', 'http://h/v2/', '*', '', undefined])
      assert.ok(!isProtocol(url), String(url));
    const { listener, port } = await started();
    assert.match((await ask(port, '/v2/a%2Fb/..?x=%zz')).body, /^protocol GET \/v2\/a%2Fb\/\.\.\?x=%zz 0$/);
    for (const path of ['/%76%32/x', '/V2/', '/../v2/', '/', '/admin']) {
      const { status, headers } = await ask(port, path);
      assert.equal(status, 404, path);
      assert.equal(headers['content-type'], 'application/problem+json');
    }
    await listener.stop(1_000);
  });

  test('routes are exact; the application is opened when first asked for, once', async () => {
    let opened = 0;
    const { listener, port } = await started({
      routes: new Map([['/livez', (asked, response) => answer(asked, response, 200, 'text/plain', 'live')]]),
      application: {
        serves: (path) => path.startsWith('/api/'),
        open: async () => {
          opened++;
          return (asked, response) => answer(asked, response, 200, 'text/plain', `app ${asked.url}`);
        },
      },
    });
    assert.equal((await ask(port, '/livez?x')).body, 'live');
    assert.equal((await ask(port, '/livez/')).status, 404);
    assert.equal(opened, 0);
    const both = await Promise.all([ask(port, '/api/a'), ask(port, '/api/b')]);
    assert.deepEqual(
      both.map((one) => one.body),
      ['app /api/a', 'app /api/b'],
    );
    assert.equal(opened, 1);
    await listener.stop(1_000);
  });

  test('an application that cannot be opened is a 500 without its reason, and is tried again', async () => {
    let tries = 0;
    const { listener, port } = await started({
      application: {
        serves: () => true,
        open: async () => {
          if (++tries === 1) throw new Error('canary');
          return (asked, response) => answer(asked, response, 200, 'text/plain', 'ok');
        },
      },
    });
    const first = await ask(port, '/api/x');
    assert.equal(first.status, 500);
    assert.doesNotMatch(first.body, /canary/);
    assert.equal((await ask(port, '/api/x')).status, 200);
    await listener.stop(1_000);
  });

  test('Node answers nothing in its own words', async () => {
    const { listener, port } = await started();
    assert.match(await raw(port, 'NONSENSE / HTTP/1.1\r\n\r\n'), /^HTTP\/1\.1 400 .*HPE_INVALID_METHOD$/s);
    assert.match(
      await raw(port, `GET /v2/ HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`),
      /HPE_HEADER_OVERFLOW$/,
    );
    assert.match(await raw(port, 'CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n'), /^HTTP\/1\.1 405 .*connect$/s);
    assert.match(await raw(port, 'GET /v2/ HTTP/1.1\r\nConnection: close\r\n\r\n'), /protocol GET \/v2\/ 0/);
    assert.match(await raw(port, 'GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n'), /^HTTP\/1\.1 400 /);
    assert.match(
      await raw(port, 'GET /livez HTTP/1.1\r\nHost: a\r\nExpect: magic\r\nConnection: close\r\n\r\n'),
      /^HTTP\/1\.1 417 /,
    );
    assert.match(
      await raw(
        port,
        'PUT /v2/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\nConnection: close\r\n\r\n',
      ),
      /^HTTP\/1\.1 100 .*protocol PUT/s,
    );
    assert.match(
      await raw(port, 'GET /v2/up HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade, close\r\n\r\n'),
      /protocol GET/,
    );
    await listener.stop(1_000);
  });

  test('headers that do not arrive end the connection; a slow body does not', async () => {
    const { listener, port } = await started({ limits: { ...DEFAULT_LIMITS, headersSeconds: 1 } });
    assert.match(await raw(port, 'GET /v2/ HTTP/1.1\r\nHost: a\r\n'), /ERR_HTTP_REQUEST_TIMEOUT$/);
    const slow = await new Promise<string>((resolve, reject) => {
      const asked = request(
        { host: '127.0.0.1', port, path: '/v2/slow', method: 'PUT', headers: { 'content-length': 2 }, agent: false },
        (reply) => {
          reply.on('data', (chunk: Buffer) => resolve(chunk.toString()));
        },
      );
      asked.on('error', reject);
      asked.write('a');
      setTimeout(() => asked.end('b'), 2_500);
    });
    assert.equal(slow, 'protocol PUT /v2/slow 2');
    await listener.stop(1_000);
  });

  test('connections of one address are bounded, except a trusted proxy’s', async () => {
    const limits = { ...DEFAULT_LIMITS, connectionsPerAddress: 3 };
    const open = async (port: number, most: number): Promise<{ alive: number; sockets: Socket[] }> => {
      const sockets = await Promise.all(
        Array.from(
          { length: 6 },
          () =>
            new Promise<Socket>((resolve) => {
              const socket = connect(port, '127.0.0.1', () => resolve(socket));
              socket.on('error', () => undefined);
            }),
        ),
      );
      const open = (): number => sockets.filter((one) => !one.destroyed && one.readyState === 'open').length;
      for (let tries = 0; tries < 1_200 && open() > most; tries++) await sleep(50);
      // What is refused a moment later would be seen here.
      await sleep(100);
      return { alive: open(), sockets };
    };
    const bounded = await started({ limits });
    const first = await open(bounded.port, 3);
    assert.equal(first.alive, 3);
    assert.equal(bounded.listener.connections, 3);
    for (const socket of first.sockets) socket.destroy();
    for (let tries = 0; tries < 1_200 && bounded.listener.connections > 0; tries++) await sleep(50);
    assert.equal((await ask(bounded.port, '/v2/')).status, 200);
    await bounded.listener.stop(1_000);
    const proxied = await started({ limits, trustedProxies: ['127.0.0.1'] });
    const second = await open(proxied.port, 6);
    assert.equal(second.alive, 6);
    for (const socket of second.sockets) socket.destroy();
    await proxied.listener.stop(1_000);
  });

  test('an address in use is an error', async () => {
    const { listener, port } = await started();
    const second = await started();
    await assert.rejects(second.listener.listen({ host: '127.0.0.1', port }), /EADDRINUSE|ERR_SERVER_ALREADY_LISTEN/);
    await listener.stop(0);
    await second.listener.stop(0);
  });
});

describe('application', () => {
  test('errors are problems without internals', async () => {
    const handler = await openApplication(
      [
        async (app) => {
          app.get('/api/fails', async () => {
            throw new Error('canary');
          });
          app.post('/api/echo', async (asked) => asked.body);
        },
      ],
      silentLog,
    );
    const { listener, port } = await started({ application: { serves: () => true, open: async () => handler } });
    const failed = await ask(port, '/api/fails');
    assert.equal(failed.status, 500);
    assert.doesNotMatch(failed.body, /canary|stack/);
    assert.equal((await ask(port, '/api/none')).status, 404);
    const json = { 'content-type': 'application/json' };
    assert.equal((await ask(port, '/api/echo', { method: 'POST', headers: json, body: '{' })).status, 400);
    assert.equal(
      (await ask(port, '/api/echo', { method: 'POST', headers: { 'content-type': 'x/y' }, body: 'a' })).status,
      415,
    );
    assert.equal((await ask(port, '/api/echo', { method: 'POST', headers: json, body: '{"a":1}' })).body, '{"a":1}');
    assert.equal((await ask(port, '/%zz')).status, 400);
    await listener.stop(1_000);
  });
});
