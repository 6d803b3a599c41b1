/** Threat cases 65, 69 and 73: slow, stalled and too many. Times are not asserted; that all comes back is. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import type { Longshore } from '../../support/server.ts';
import {
  bytesOf,
  digestOf,
  EMPTY_CONFIG,
  expectError,
  expectStatus,
  get,
  imageManifest,
  OCI_MANIFEST,
  pushBlob,
  putManifest,
  startUpload,
} from '../support/oci.ts';
import { open } from '../support/open.ts';
import { ask, eventually, head, pause, rawAsk, Wire } from '../support/wire.ts';

const quick = { headersSeconds: 2, keepAliveSeconds: 2, minimumRate: 4096, minimumRateSeconds: 5 };
const server = await open({ config: { limits: quick } });
const patient = await open();
const MIB = 1024 * 1024;

const descriptors = (place: Longshore): number => readdirSync(`/proc/${place.pid}/fd`).length;
const memoryMib = (place: Longshore): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${place.pid}/status`, 'utf8'))?.[1]) / 1024;

/** The ports of those whose connections the server has open, as the system knows them. */
function peersOf(place: Longshore): Set<number> {
  const port = (address = ''): number => Number.parseInt(address.slice(address.indexOf(':') + 1), 16);
  const rows = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/));
  const open = rows.filter(([, local, , state]) => state === '01' && port(local) === place.port);
  return new Set(open.map(([, , remote]) => port(remote)));
}

/** Waits until the server holds no more descriptors than before, give or take its own housekeeping. */
const descriptorsBack = (place: Longshore, before: number): Promise<true> =>
  eventually(`descriptors are back at ${before}`, () => (descriptors(place) <= before + 8 ? true : undefined));

describe('slow and many', { concurrency: 1 }, () => {
  it('T65 200 slow clients, of headers, bodies and reads, are ended; honest ones are served meanwhile', async () => {
    const large = bytesOf(24 * MIB);
    await pushBlob(server, 't65', large);
    await pushBlob(server, 't65', 'warm');
    const path = `/v2/t65/blobs/${digestOf(large)}`;
    const before = descriptors(server);
    const wires: Wire[] = [];
    let trickling = true;
    const slow = async (begin: string): Promise<Wire> => {
      const wire = await Wire.connect(server);
      wires.push(wire);
      await wire.send(begin);
      return wire;
    };
    const uploads = await Promise.all(Array.from({ length: 70 }, () => startUpload(server, 't65')));
    const headers = await Promise.all(
      Array.from({ length: 70 }, () => slow('GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: ')),
    );
    const bodies = await Promise.all(
      uploads.map((location) => slow(head('PATCH', location, ['Content-Length: 1000000']))),
    );
    const readers = await Promise.all(Array.from({ length: 60 }, () => slow(head('GET', path))));
    for (const wire of readers) wire.socket.pause();
    const trickle = (async () => {
      while (trickling) {
        for (const wire of [...headers, ...bodies]) void wire.send('x');
        await pause(250);
      }
    })();
    try {
      for (let i = 0; i < 20; i += 1) {
        expectStatus(await get(server, '/v2/'), 200);
        await pushBlob(server, 't65/honest', bytesOf(50_000));
        await pause(100);
      }
      const first = await headers[0]!.answer();
      expectError(first, 408, 'UNAVAILABLE');
      await Promise.all([...headers, ...bodies].map((wire) => wire.ended()));
    } finally {
      trickling = false;
      await trickle;
    }
    // Whoever reads again too early is no slow reader any more.
    await eventually('the readers are cut off', () => {
      const open = peersOf(server);
      return readers.some((wire) => open.has(wire.socket.localPort ?? 0)) ? undefined : true;
    });
    for (const wire of readers) wire.socket.resume();
    await Promise.all(readers.map((wire) => wire.ended()));
    const cut = readers.filter((wire) => wire.rest().length < large.length);
    assert.equal(cut.length, readers.length, 'a reader that did not read got all of it');
    for (const wire of wires) wire.destroy();
    // A slow upload keeps what arrived.
    const status = await get(server, uploads[0]!);
    expectStatus(status, 204);
    assert.match(status.header('range'), /^0-\d+$/);
    await descriptorsBack(server, before);
  });

  it('T65 a body above the least rate is not cut, however long it takes', async () => {
    const location = await startUpload(server, 't65/steady');
    const wire = await Wire.connect(server);
    await wire.send(head('PATCH', location, [`Content-Length: ${8 * 16_384}`]));
    // Four times the least rate, so that a pause of a busy machine is not taken for a slow client.
    for (let i = 0; i < 8; i += 1) {
      await wire.send(Buffer.alloc(16_384, 0x41));
      await pause(1000);
    }
    expectStatus(await wire.answer(), 202);
    wire.destroy();
  });

  it('T73 100 readers that stop reading a large blob cost bounded memory, and their descriptors return', async () => {
    const large = bytesOf(96 * MIB);
    await pushBlob(patient, 't73', large);
    const path = `/v2/t73/blobs/${digestOf(large)}`;
    for (let i = 0; i < 3; i += 1) assert.equal((await get(patient, path)).body.length, large.length);
    const before = descriptors(patient);
    const memory = memoryMib(patient);
    const wires = await Promise.all(
      Array.from({ length: 100 }, async () => {
        const wire = await Wire.connect(patient);
        wire.socket.pause();
        await wire.send(head('GET', path));
        return wire;
      }),
    );
    for (let i = 0; i < 10; i += 1) {
      expectStatus(await get(patient, '/v2/'), 200);
      await pause(100);
    }
    const grown = memoryMib(patient) - memory;
    assert.ok(grown < 200, `${grown} MiB more`);
    for (const wire of wires) wire.destroy();
    await descriptorsBack(patient, before);
    assert.equal(digestOf((await get(patient, path)).body), digestOf(large));
  });

  it('T69 connections of one address, and all together, are bounded; those that are served stay so', async () => {
    for (const limits of [{ connectionsPerAddress: 20 }, { connections: 20 }]) {
      const small = await open({ config: { limits } });
      const wires = await Promise.all(Array.from({ length: 60 }, () => Wire.connect(small).catch(() => undefined)));
      const answers = await Promise.all(
        wires.map(async (wire) => {
          await wire?.send(head('GET', '/v2/'));
          return wire?.answer().then(
            (answer) => answer.status,
            () => 0,
          );
        }),
      );
      const served = answers.filter((status) => status === 200).length;
      assert.ok(served >= 15 && served <= 20, `${JSON.stringify(limits)}: ${served} of 60 were served`);
      for (const wire of wires) wire?.destroy();
      await eventually('connections are free again', async () => {
        const answer = await get(small, '/v2/').catch(() => undefined);
        return answer?.status === 200 ? true : undefined;
      });
    }
  });

  it('T69 an idle connection and one whose headers do not end are closed', async () => {
    const idle = await Wire.connect(server);
    await idle.send(head('GET', '/v2/'));
    expectStatus(await idle.answer(), 200);
    await idle.ended();
    const begun = await Wire.connect(server);
    await begun.send('GET /v2/ HTTP/1.1\r\nHost: x\r\n');
    expectError(await begun.answer(), 408, 'UNAVAILABLE');
    await begun.ended();
  });

  it('T69 every bound of a request is met and named by its error', async () => {
    const lowered = await open({ config: { manifests: { maxBytes: 2048 } } });
    await pushBlob(lowered, 't69', EMPTY_CONFIG);
    const big = imageManifest(EMPTY_CONFIG, [], { annotations: { a: 'x'.repeat(3000) } });
    expectError(await putManifest(lowered, 't69', 'v1', big), 413, 'MANIFEST_INVALID');
    const named: [number, string, Parameters<typeof ask>[1], string, Parameters<typeof ask>[3], RegExp][] = [
      [414, 'UNSUPPORTED', 'GET', `/v2/${'a'.repeat(8200)}`, {}, /8/],
      [414, 'UNSUPPORTED', 'GET', `/v2/_catalog?last=${'a'.repeat(8200)}`, {}, /8/],
      [431, 'UNSUPPORTED', 'GET', '/v2/', { headers: { 'x-big': 'x'.repeat(16_500) } }, /16/],
      [400, 'NAME_INVALID', 'GET', `/v2/${'a'.repeat(256)}/tags/list`, {}, /255/],
      [
        414,
        'UNSUPPORTED',
        'PUT',
        `/v2/t69/manifests/${digestOf('x')}?${Array.from({ length: 51 }, (_, i) => `tag=t${i}`).join('&')}`,
        { headers: { 'content-type': OCI_MANIFEST }, body: '{}' },
        /50/,
      ],
      [
        413,
        'MANIFEST_INVALID',
        'PUT',
        '/v2/t69/manifests/v1',
        { headers: { 'content-type': OCI_MANIFEST }, body: Buffer.alloc(4 * MIB + 1, 0x20) },
        /4|4194304/,
      ],
      [
        400,
        'MANIFEST_INVALID',
        'PUT',
        '/v2/t69/manifests/v1',
        { headers: { 'content-type': OCI_MANIFEST }, body: '['.repeat(200) + ']'.repeat(200) },
        /128|object/,
      ],
      [
        400,
        'NAME_INVALID',
        'PUT',
        `/v2/t69/manifests/${'t'.repeat(129)}`,
        { headers: { 'content-type': OCI_MANIFEST }, body: '{}' },
        /128|127/,
      ],
    ];
    for (const [status, code, method, path, options, text] of named) {
      const error = expectError(await ask(patient, method, path, options), status, code);
      assert.match(error.message, text, `${method} ${path.slice(0, 40)}`);
    }
    const many = Array.from({ length: 400 }, (_, i) => `X-${i}: y`);
    const answer = await rawAsk(patient, head('GET', '/v2/', many));
    assert.ok([200, 400, 431].includes(answer.status), String(answer.status));
    const filter = await get(patient, `/v2/t69/referrers/${digestOf('x')}?artifactType=${'x'.repeat(256)}`);
    assert.equal(filter.status, 400);
    expectStatus(await get(patient, '/v2/'), 200);
  });
});
