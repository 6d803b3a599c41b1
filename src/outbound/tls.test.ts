/** https: whom it trusts, and that nothing leads away from it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer as createPlain } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { FaultError } from '../oci/error.ts';
import { authority } from '../server/certificates.testing.ts';
import { type OutboundOptions, outboundClient } from './client.ts';

const ours = authority('ours');
const theirs = authority('theirs');
after(() => {
  ours.remove();
  theirs.remove();
});
const issued = ours.issue('server', 1);

let plainAsked = 0;
const plain = createPlain((_request, response) => {
  plainAsked++;
  response.end('plain');
});
const server = createServer(
  { cert: readFileSync(issued.certificate), key: readFileSync(issued.key) },
  (request, response) => {
    const { port } = plain.address() as AddressInfo;
    if (request.url === '/plain') response.writeHead(302, { location: `http://127.0.0.1:${port}/` });
    if (request.url === '/scheme') response.writeHead(302, { location: `HTTP://127.0.0.1:${port}/` });
    response.end(request.headers.authorization ?? 'hello');
  },
);
for (const one of [plain, server]) {
  one.listen(0, '127.0.0.1');
  await once(one, 'listening');
  one.unref();
}
const { port } = server.address() as AddressInfo;

async function ask(path: string, options: OutboundOptions): Promise<string> {
  const client = outboundClient({ allowPrivateAddresses: true, ...options });
  try {
    const answer = await client.send({
      url: `https://127.0.0.1:${port}${path}`,
      headers: { authorization: 'Basic s3cret' },
    });
    return String(await answer.bytes(100));
  } finally {
    await client.close();
  }
}

async function fails(promise: Promise<unknown>, says: RegExp): Promise<void> {
  await assert.rejects(promise, (error) => error instanceof FaultError && says.test(error.message));
}

test('a certificate is checked, whatever the environment says', async () => {
  assert.equal(await ask('/', { ca: readFileSync(ours.certificate, 'utf8') }), 'Basic s3cret');
  const before = process.env.NODE_TLS_REJECT_UNAUTHORIZED;
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  try {
    await fails(ask('/', {}), /CERT|VERIFY|ISSUER/);
    await fails(ask('/', { ca: readFileSync(theirs.certificate, 'utf8') }), /CERT|VERIFY|ISSUER/);
  } finally {
    if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
    else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before;
  }
});

test('a certificate of another name is not taken', async () => {
  const client = outboundClient({
    allowPrivateAddresses: true,
    ca: readFileSync(ours.certificate, 'utf8'),
    resolve: async () => [{ address: '127.0.0.1', family: 4 }],
  });
  await fails(client.send({ url: `https://other.example.org:${port}/` }), /ALTNAME/);
  await client.close();
});

test('nobody is led from https to http, however it is written', async () => {
  const ca = readFileSync(ours.certificate, 'utf8');
  for (const path of ['/plain', '/scheme']) await fails(ask(path, { ca }), /from https to http/);
  assert.equal(plainAsked, 0);
});
