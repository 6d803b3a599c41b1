/** Which addresses the client reaches, by whatever name, spelling or redirect it is led to them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { type AddressInfo, createServer as createSocketServer } from 'node:net';
import { test } from 'node:test';
import { FaultError } from '../oci/error.ts';
import { fails, OPEN, serve, withClient } from './client.testing.ts';
import type { OutboundOptions } from './client.ts';
import { isRefusedAddress } from './fault.ts';

const hello: RequestListener = (_request, response) => void response.end('hello');

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
