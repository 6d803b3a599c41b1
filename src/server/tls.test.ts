import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { request } from 'node:https';
import { connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { type ConnectionOptions, connect } from 'node:tls';
import { answer, type RawHandler } from './answer.ts';
import { authority } from './certificates.testing.ts';
import { peers } from './forwarded.ts';
import { DEFAULT_LIMITS, started } from './listener.testing.ts';

const own = authority('Test authority');
const strangers = authority('Other authority');
after(() => {
  own.remove();
  strangers.remove();
});
const server = own.issue('server', 100);
const ca = readFileSync(own.certificate);
const peerOf = peers([]);
const subject: RawHandler = (asked, response) =>
  answer(
    asked,
    response,
    200,
    'text/plain',
    `${asked.httpVersion} ${peerOf(asked).scheme} ${peerOf(asked).certificateSubject ?? 'nobody'}`,
  );
const protocol = { handler: subject, clientErrorAnswer: () => '', connectAnswer: () => '' };

function get(port: number, options: ConnectionOptions = {}): Promise<string> {
  return new Promise((resolve) => {
    const asked = request({ host: '127.0.0.1', port, path: '/v2/', ca, agent: false, ...options }, (reply) => {
      let body = '';
      reply.on('data', (chunk: Buffer) => {
        body += chunk.toString();
      });
      reply.on('end', () => resolve(body));
    });
    asked.on('error', (error: NodeJS.ErrnoException) => resolve(`error ${error.code}`));
    asked.end();
  });
}

/** The serial number of the certificate that the server shows. */
function serial(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, ca }, () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

function http2(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  body?: Buffer,
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers);
    let got = '';
    let status = 0;
    stream.on('response', (reply) => {
      status = Number(reply[':status']);
    });
    stream.on('data', (chunk: Buffer) => {
      got += chunk.toString();
    });
    stream.on('end', () => resolve({ status, body: got }));
    stream.on('error', reject);
    stream.end(body);
  });
}

describe('TLS', () => {
  test('HTTP/1.1 and HTTP/2 on one listener; bodies larger than every window pass', async () => {
    const { listener, port } = await started({ tls: { ...server, requireClientCertificate: false } });
    assert.equal(await get(port), 'protocol GET /v2/ 0');
    const session = connectHttp2(`https://127.0.0.1:${port}`, { ca });
    const settings = new Promise<{ initialWindowSize?: number; maxConcurrentStreams?: number }>((resolve) =>
      session.once('remoteSettings', resolve),
    );
    const big = Buffer.alloc(20 * 1024 * 1024, 'x');
    const pushed = await http2(session, { ':method': 'PUT', ':path': '/v2/big' }, big);
    assert.deepEqual(pushed, { status: 200, body: `protocol PUT /v2/big ${big.length}` });
    const many = await Promise.all(
      Array.from({ length: 200 }, (_unused, index) => http2(session, { ':path': `/v2/${index}` })),
    );
    assert.ok(many.every((one) => one.status === 200));
    assert.equal((await http2(session, { ':path': '/nothing' })).status, 404);
    const { initialWindowSize, maxConcurrentStreams } = await settings;
    assert.equal(initialWindowSize, DEFAULT_LIMITS.http2StreamWindowBytes);
    assert.equal(maxConcurrentStreams, DEFAULT_LIMITS.http2Streams);
    const gone = new Promise<void>((resolve) => session.on('close', () => resolve()));
    assert.equal(await listener.stop(2_000), true);
    await gone;
  });

  test('the server keeps no request timeout for HTTP/1.1 over TLS, but one for headers', async () => {
    const { listener } = await started({ tls: { ...server, requireClientCertificate: false } });
    const { requestTimeout, headersTimeout, keepAliveTimeout } = listener.server as unknown as Record<string, number>;
    assert.deepEqual([requestTimeout, headersTimeout, keepAliveTimeout], [0, 20_000, 75_000]);
    await listener.stop(0);
  });

  test('new files are taken up, also through a turned link; files that do not fit are not', async () => {
    const certificate = join(own.folder, 'live.pem');
    const key = join(own.folder, 'live.key');
    const use = (issued: { certificate: string; key: string }): void => {
      for (const [from, to] of [
        [issued.certificate, certificate],
        [issued.key, key],
      ] as const) {
        symlinkSync(from, `${to}.new`);
        renameSync(`${to}.new`, to);
      }
    };
    use(own.issue('one', 1));
    const { listener, port } = await started({ tls: { certificate, key, requireClientCertificate: false } });
    assert.equal(Number(`0x${await serial(port)}`), 1);
    assert.equal(listener.reload(), false);
    use(own.issue('two', 2));
    assert.equal(listener.reload(), true);
    assert.equal(Number(`0x${await serial(port)}`), 2);
    const third = own.issue('three', 3);
    use({ certificate: third.certificate, key: own.issue('four', 4).key });
    assert.equal(listener.reload(), false);
    assert.equal(Number(`0x${await serial(port)}`), 2);
    writeFileSync(join(own.folder, 'broken'), 'nonsense');
    use({ certificate: join(own.folder, 'broken'), key: third.key });
    assert.equal(listener.reload(), false);
    use({ certificate: join(own.folder, 'missing'), key: third.key });
    assert.equal(listener.reload(), false);
    assert.equal(Number(`0x${await serial(port)}`), 2);
    use(third);
    assert.equal(listener.reload(), true);
    assert.equal(Number(`0x${await serial(port)}`), 3);
    await listener.stop(0);
  });

  test('a start with files that cannot be used fails', async () => {
    const other = own.issue('other', 50);
    const broken = join(own.folder, 'not.pem');
    copyFileSync(other.key, broken);
    for (const files of [
      { certificate: broken, key: other.key },
      { certificate: server.certificate, key: other.key },
      { certificate: '/nowhere', key: other.key },
    ]) {
      await assert.rejects(started({ tls: { ...files, requireClientCertificate: false } }));
    }
  });

  test('client certificates: required, verified, and their subject', async () => {
    const ann = own.issue('ann', 200);
    const eve = strangers.issue('ann', 201);
    const as = (issued: { certificate: string; key: string }): ConnectionOptions => ({
      cert: readFileSync(issued.certificate),
      key: readFileSync(issued.key),
    });
    const tls = { ...server, clientCa: own.certificate };
    const optional = await started({ protocol, tls: { ...tls, requireClientCertificate: false } });
    assert.equal(await get(optional.port), '1.1 https nobody');
    assert.equal(await get(optional.port, as(ann)), '1.1 https O=Test\nCN=ann');
    assert.equal(await get(optional.port, as(eve)), '1.1 https nobody');
    const session = connectHttp2(`https://127.0.0.1:${optional.port}`, { ca, ...as(ann) });
    assert.equal((await http2(session, { ':path': '/v2/' })).body, '2.0 https O=Test\nCN=ann');
    session.close();
    await optional.listener.stop(500);
    const required = await started({ protocol, tls: { ...tls, requireClientCertificate: true } });
    assert.match(await get(required.port), /^error /);
    assert.match(await get(required.port, as(eve)), /^error /);
    assert.equal(await get(required.port, as(ann)), '1.1 https O=Test\nCN=ann');
    await required.listener.stop(500);
  });

  test('a handshake that does not come ends the connection; plain HTTP and nonsense harm nothing', async () => {
    const { listener, port } = await started({
      tls: { ...server, requireClientCertificate: false },
      limits: { ...DEFAULT_LIMITS, handshakeSeconds: 1 },
    });
    const silent = connectTcp(port, '127.0.0.1');
    silent.on('error', () => undefined);
    const closed = new Promise<void>((resolve) => silent.on('close', () => resolve()));
    for (const text of ['GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n', '\x16\x03\x01\xff\xffgarbage', '\0'.repeat(100)]) {
      await new Promise<void>((resolve) => {
        const socket = connectTcp(port, '127.0.0.1', () => socket.write(text));
        socket.on('error', () => undefined);
        socket.on('close', () => resolve());
        socket.resume();
      });
    }
    await closed;
    assert.equal(await get(port), 'protocol GET /v2/ 0');
    await listener.stop(0);
  });
});
