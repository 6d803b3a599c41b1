/** The same handler under HTTP/2, where framing, early answers and repeated headers differ. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Session, connect, createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { systemClock } from '../kit/clock.ts';
import { noMetrics, silentLog } from '../kit/log.ts';
import { RegistryError } from '../oci/error.ts';
import { memoryRegistry } from '../registry/memory.ts';
import { blob, image } from '../registry/samples.testing.ts';
import { protocolHandler } from './handler.ts';
import { CountingBuffers, testAuthenticator } from './serve.testing.ts';

const content = blob('0123456789'.repeat(10_000));

async function ask(session: ClientHttp2Session, headers: Record<string, string>, body?: string | Buffer) {
  const stream = session.request(headers, { endStream: body === undefined });
  stream.on('error', () => {});
  const answered = once(stream, 'response');
  if (body !== undefined) stream.end(body);
  const [response] = await answered;
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return { response, text: Buffer.concat(chunks).toString() };
}

test('push, pull, errors and early answers over HTTP/2', async () => {
  const handler = protocolHandler({
    registry: memoryRegistry({ sparse: 'all' }),
    authenticator: testAuthenticator,
    authorize: (call) => {
      if (call.principal.kind === 'anonymous') throw new RegistryError('UNAUTHORIZED', 'Log in.');
    },
    mayPushAnonymously: () => false,
    peerOf: () => ({ address: '127.0.0.1', host: 'registry.test', scheme: 'http' }),
    realm: () => 'http://registry.test/token',
    service: 'registry.test',
    buffers: new CountingBuffers(),
    log: silentLog,
    metrics: noMetrics,
    clock: systemClock,
    state: () => 'ready',
  });
  const server = createServer(handler);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  try {
    const authorization = 'Bearer alice';
    const base = await ask(session, { ':path': '/v2/', authorization });
    assert.equal(base.response[':status'], 200);
    assert.equal(base.text, '{}');
    const anonymous = await ask(session, { ':path': '/v2/', ':method': 'GET' });
    assert.equal(anonymous.response[':status'], 401);
    assert.match(String(anonymous.response['www-authenticate']), /Bearer realm=.*Basic realm=/s);
    const early = await ask(session, { ':path': '/v2/a/blobs/uploads/x', ':method': 'PATCH' }, Buffer.alloc(50_000));
    assert.equal(early.response[':status'], 401);
    const pushed = await ask(
      session,
      { ':path': `/v2/a/blobs/uploads/?digest=${content.digest}`, ':method': 'POST', authorization },
      content.bytes,
    );
    assert.equal(pushed.response[':status'], 201);
    const pulled = await ask(session, { ':path': `/v2/a/blobs/${content.digest}`, authorization });
    assert.equal(pulled.text, content.bytes.toString());
    const picture = image(content, []);
    const put = await ask(
      session,
      {
        ':path': `/v2/a/manifests/${picture.digest}?tag=a&tag=b`,
        ':method': 'PUT',
        authorization,
        'content-type': picture.mediaType,
      },
      picture.bytes,
    );
    assert.equal(put.response[':status'], 201);
    assert.equal(String(put.response['oci-tag']), 'a, b');
    const missing = await ask(session, { ':path': '/v2/a/manifests/none', authorization });
    assert.equal(missing.response[':status'], 404);
    assert.equal(JSON.parse(missing.text).errors[0].code, 'MANIFEST_UNKNOWN');
  } finally {
    session.close();
    server.close();
  }
});
