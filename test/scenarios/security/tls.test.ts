/** Threat case 67: TLS and HTTP/2 that are broken on purpose. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { connect as connectHttp2, constants } from 'node:http2';
import { request } from 'node:https';
import { connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { type Longshore, startLongshore } from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { withTools } from '../../support/tools.ts';
import { eventually } from '../support/wire.ts';

withTools(['openssl'], 'T67 TLS and HTTP/2', (openssl) => {
  const folder = temporaryFolder('tls');
  const certificate = join(folder, 'certificate.pem');
  const key = join(folder, 'key.pem');
  execFileSync(
    openssl,
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/CN=registry.test',
      '-addext',
      'subjectAltName=DNS:registry.test,IP:127.0.0.1',
      '-keyout',
      key,
      '-out',
      certificate,
    ],
    { stdio: 'ignore' },
  );
  let server: Longshore;
  const started = startLongshore({
    wait: false,
    config: {
      access: { anonymous: 'push' },
      server: { tls: { certificate, key } },
      limits: { handshakeSeconds: 1, headersSeconds: 2 },
    },
  });
  after(async () => (await started).kill());

  const status = (): Promise<number | undefined> =>
    new Promise((resolve) => {
      const asked = request(
        {
          host: '127.0.0.1',
          port: server.port,
          path: '/v2/',
          rejectUnauthorized: false,
          agent: false,
          servername: 'registry.test',
        },
        (answer) => {
          answer.resume();
          answer.on('end', () => resolve(answer.statusCode));
          answer.on('error', () => resolve(undefined));
        },
      );
      asked.on('error', () => resolve(undefined));
      asked.end();
    });
  const ready = async (): Promise<void> => {
    server = await started;
    await eventually('the server answers over TLS', async () => ((await status()) === 200 ? true : undefined));
  };
  const alive = async (): Promise<void> => {
    assert.equal(await status(), 200, server.output().slice(-2000));
    process.kill(server.pid, 0);
  };
  const h2 = (): Promise<TLSSocket> =>
    new Promise((resolve, reject) => {
      const socket = connectTls(
        {
          host: '127.0.0.1',
          port: server.port,
          ALPNProtocols: ['h2'],
          rejectUnauthorized: false,
          servername: 'registry.test',
        },
        () => resolve(socket),
      );
      socket.on('error', reject);
      socket.resume();
    });
  const frame = (type: number, flags: number, stream: number, payload: Buffer): Buffer => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(stream, 5);
    return Buffer.concat([head, payload]);
  };
  const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0, Buffer.alloc(0))]);
  const ended = (socket: { on(event: 'close', listener: () => void): unknown; destroyed: boolean }): Promise<void> =>
    new Promise((resolve) => {
      if (socket.destroyed) resolve();
      else socket.on('close', () => resolve());
    });

  describe('TLS and HTTP/2', { concurrency: 1 }, () => {
    it('T67 HTTP/2 is served', async () => {
      await ready();
      const session = connectHttp2(`https://127.0.0.1:${server.port}`, { rejectUnauthorized: false });
      const stream = session.request({ ':path': '/v2/' });
      const answered = await new Promise<number>((resolve, reject) => {
        stream.on('response', (headers) => resolve(Number(headers[':status'])));
        stream.on('error', reject);
      });
      assert.equal(answered, 200);
      stream.resume();
      await new Promise((resolve) => session.close(() => resolve(undefined)));
    });

    const garbage: [string, Buffer[]][] = [
      ['HEADERS that are not HPACK', [preface, frame(1, 0x5, 1, Buffer.alloc(300, 0xff))]],
      [
        'HEADERS whose index is out of the table',
        [preface, frame(1, 0x5, 1, Buffer.from([0xff, 0xff, 0xff, 0xff, 0x7f]))],
      ],
      ['HEADERS on stream 0', [preface, frame(1, 0x5, 0, Buffer.from([0x82]))]],
      ['DATA on an idle stream', [preface, frame(0, 0, 5, Buffer.alloc(10))]],
      ['a frame of 16 MiB', [preface, Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])]],
      ['SETTINGS of odd length', [preface, frame(4, 0, 0, Buffer.alloc(5))]],
      ['WINDOW_UPDATE by nothing', [preface, frame(8, 0, 0, Buffer.alloc(4))]],
      ['WINDOW_UPDATE beyond the largest', [preface, frame(8, 0, 0, Buffer.from([0x7f, 0xff, 0xff, 0xff]))]],
      ['no preface', [Buffer.from('GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n')]],
      [
        'a CONTINUATION flood',
        [
          preface,
          frame(1, 0x1, 1, Buffer.from([0x82])),
          ...Array.from({ length: 2000 }, () => frame(9, 0, 1, Buffer.alloc(1000, 0x40))),
        ],
      ],
      ['a PING flood', [preface, ...Array.from({ length: 5000 }, () => frame(6, 0, 0, Buffer.alloc(8)))]],
      [
        'a SETTINGS flood',
        [preface, ...Array.from({ length: 5000 }, () => frame(4, 0, 0, Buffer.from([0, 4, 0, 1, 0, 0])))],
      ],
      ['an empty DATA flood', [preface, ...Array.from({ length: 5000 }, () => frame(0, 0, 1, Buffer.alloc(0)))]],
      ['priority on itself', [preface, frame(2, 0, 1, Buffer.from([0, 0, 0, 1, 16]))]],
    ];
    for (const [what, frames] of garbage) {
      it(`T67 ${what}: the process lives and serves`, async () => {
        const socket = await h2();
        socket.on('error', () => {});
        for (const part of frames) if (!socket.destroyed) socket.write(part);
        await alive();
        socket.destroy();
        await alive();
      });
    }

    it('T67 rapid reset: 3,000 streams opened and reset are outlived', async () => {
      const session = connectHttp2(`https://127.0.0.1:${server.port}`, { rejectUnauthorized: false });
      session.on('error', () => {});
      for (let i = 0; i < 3000 && !session.destroyed && !session.closed; i += 1) {
        const stream = session.request({ ':path': '/v2/_catalog' });
        stream.on('error', () => {});
        stream.close(constants.NGHTTP2_CANCEL);
        if (i % 200 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      await alive();
      session.destroy();
      await alive();
    });

    it('T67 odd names and protocols in the handshake are no error of ours', async () => {
      for (const options of [
        { servername: 'x'.repeat(250) },
        { servername: 'unknown.test' },
        { servername: '' },
        { servername: 'xn--a' },
        { ALPNProtocols: ['http/0.9'] },
        { ALPNProtocols: ['spdy/3', 'h3'] },
        { ALPNProtocols: ['x'.repeat(255)] },
        { minVersion: 'TLSv1', maxVersion: 'TLSv1.1' } as const,
      ]) {
        await new Promise<void>((resolve) => {
          const socket = connectTls(
            { host: '127.0.0.1', port: server.port, rejectUnauthorized: false, ...options },
            () => {
              socket.destroy();
              resolve();
            },
          );
          socket.on('error', () => resolve());
          socket.on('close', () => resolve());
        });
        await alive();
      }
    });

    it('T67 half-open and garbled handshakes are closed by the server', async () => {
      const hello = Buffer.from('16030100050100000100', 'hex');
      for (const begin of [
        Buffer.alloc(0),
        hello,
        Buffer.from('GET / HTTP/1.1\r\n\r\n'),
        Buffer.alloc(100_000, 0x16),
        Buffer.from('160301ffff01', 'hex'),
      ]) {
        const socket = connectTcp({ host: '127.0.0.1', port: server.port });
        socket.on('error', () => {});
        socket.resume();
        if (begin.length > 0) socket.write(begin);
        await ended(socket);
        await alive();
      }
    });
  });
});
