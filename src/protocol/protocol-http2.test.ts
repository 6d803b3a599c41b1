/** The same handler under HTTP/2, where framing, early answers and repeated headers differ. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Session, connect, constants, createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { systemClock } from '../kit/clock.ts';
import { noMetrics, silentLog } from '../kit/log.ts';
import { RegistryError } from '../oci/error.ts';
import { memoryRegistry } from '../registry/memory.ts';
import type { Registry } from '../registry/registry.ts';
import { blob, image } from '../registry/samples.testing.ts';
import { protocolHandler } from './handler.ts';
import type { AccessLine } from './parts.ts';
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

interface Served extends AsyncDisposable {
  readonly session: ClientHttp2Session;
  readonly buffers: CountingBuffers;
  readonly lines: AccessLine[];
  readonly logged: string[];
}

async function serve(registry: Registry): Promise<Served> {
  const buffers = new CountingBuffers(64 * 1024);
  const lines: AccessLine[] = [];
  const logged: string[] = [];
  const handler = protocolHandler({
    registry,
    authenticator: testAuthenticator,
    authorize: (call) => {
      if (call.principal.kind === 'anonymous') throw new RegistryError('UNAUTHORIZED', 'Log in.');
    },
    mayPushAnonymously: () => false,
    peerOf: () => ({ address: '127.0.0.1', host: 'registry.test', scheme: 'http' }),
    realm: () => 'http://registry.test/token',
    service: 'registry.test',
    buffers,
    log: { ...silentLog, warn: (text) => void logged.push(text), error: (text) => void logged.push(text) },
    accessLog: (line) => void lines.push(line),
    metrics: noMetrics,
    clock: systemClock,
    state: () => 'ready',
  });
  const server = createServer(handler);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  return {
    session,
    buffers,
    lines,
    logged,
    async [Symbol.asyncDispose]() {
      session.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

test('push, pull, errors and early answers over HTTP/2', async () => {
  await using server = await serve(memoryRegistry({ sparse: 'all' }));
  const { session } = server;
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
});

test('streams that are reset at any time, up and down, leave nothing behind', async () => {
  const inner = memoryRegistry();
  const size = 2_000_000;
  let opened = 0;
  let closed = 0;
  const registry: Registry = {
    ...inner,
    getBlob: async (_call, _repository, digest) => ({
      descriptor: { mediaType: 'x', digest, size },
      range: { start: 0, end: size },
      openRandom: async () => {
        opened++;
        return {
          read: async (into) => {
            await new Promise(setImmediate);
            return into.length;
          },
          close: async () => void closed++,
        };
      },
      open: () => Readable.from([]),
      close: () => {},
    }),
  };
  await using server = await serve(registry);
  const { session } = server;
  session.setMaxListeners(200);
  const authorization = 'Bearer alice';
  await Promise.all(
    Array.from({ length: 60 }, async (_, i) => {
      const stream = session.request({ ':path': `/v2/a/blobs/${content.digest}`, authorization });
      stream.on('error', () => {});
      const ended = new Promise((resolve) => stream.once('close', resolve));
      let left = (i * 50_021) % size;
      if (i % 4 === 0) stream.close(constants.NGHTTP2_CANCEL);
      stream.on('data', (chunk: Buffer) => {
        if ((left -= chunk.length) <= 0)
          stream.close(i % 2 === 0 ? constants.NGHTTP2_CANCEL : constants.NGHTTP2_NO_ERROR);
      });
      await ended;
    }),
  );
  const digest = blob('0123').digest;
  for (const code of [constants.NGHTTP2_CANCEL, constants.NGHTTP2_NO_ERROR]) {
    const begun = await ask(session, { ':path': '/v2/a/blobs/uploads/', ':method': 'POST', authorization });
    const path = `${begun.response.location}?digest=${digest}`;
    // Node's client ends the stream before it resets it: only the length tells that something is missing.
    const stream = session.request({ ':path': path, ':method': 'PUT', authorization, 'content-length': '10' });
    stream.on('error', () => {});
    stream.resume();
    const gone = new Promise((resolve) => stream.once('close', resolve));
    await new Promise((resolve) => stream.write('0123', resolve));
    await new Promise((resolve) => setTimeout(resolve, 20));
    stream.close(code);
    await gone;
  }
  const missing = await ask(session, {
    ':path': `/v2/a/blobs/${blob('0123').digest}`,
    ':method': 'HEAD',
    authorization,
  });
  assert.equal(missing.response[':status'], 404, 'a body that was cut short is never committed');
  while (closed < opened || server.buffers.transfers > 0) await new Promise(setImmediate);
  assert.equal(server.buffers.lentBytes, 0);
  assert.deepEqual(server.logged, []);
});
