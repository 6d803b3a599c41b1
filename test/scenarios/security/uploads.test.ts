/** Threat cases 8-13: uploads. */
import assert from 'node:assert/strict';
import { globSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { ROOT, startLongshore } from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { passTicks, rowsOf } from '../support/keys.ts';
import {
  basic,
  bytesOf,
  digestOf,
  EMPTY_CONFIG,
  expectError,
  expectStatus,
  get,
  imageManifest,
  pushBlob,
  putManifest,
  startUpload,
  withQuery,
} from '../support/oci.ts';
import { closed, open, PASSWORDS } from '../support/open.ts';
import { type Answer, ask, eventually, head, pause, Wire } from '../support/wire.ts';

const server = await open();
const guarded = await closed({
  config: {
    access: {
      rules: [
        { users: ['alice', 'bob'], repositories: ['both/**'], actions: ['pull', 'push', 'delete'] },
        { users: ['alice'], repositories: ['alice/**'], actions: ['pull', 'push', 'delete'] },
        { users: ['carol'], repositories: ['both/**'], actions: ['pull'] },
      ],
    },
  },
});
const alice = basic('alice', PASSWORDS.alice);
const bob = basic('bob', PASSWORDS.bob);
const carol = basic('carol', PASSWORDS.carol);
type Headers = Record<string, string>;

/** Every method on an upload; the statuses in the order GET, PATCH, PUT, DELETE. */
async function tryAll(place: { host: string; port: number }, location: string, headers: Headers): Promise<Answer[]> {
  return [
    await ask(place, 'GET', location, { headers }),
    await ask(place, 'PATCH', location, { headers, body: 'stolen' }),
    await ask(place, 'PUT', withQuery(location, `digest=${digestOf('stolen')}`), { headers, body: 'stolen' }),
    await ask(place, 'DELETE', location, { headers }),
  ];
}

describe('uploads', { concurrency: true }, () => {
  for (const stored of [0, 10, 100_000]) {
    it(`T8 an upload with ${stored} bytes is nobody else's: not under another repository, not by another account`, async () => {
      const location = await startUpload(guarded, 'both/a', alice as Headers);
      const bytes = bytesOf(stored);
      if (stored > 0) expectStatus(await ask(guarded, 'PATCH', location, { headers: alice, body: bytes }), 202);
      for (const [where, who] of [
        [location.replace('/both/a/', '/both/b/'), alice],
        [location.replace('/both/a/', '/alice/a/'), alice],
        [location, bob],
        [location.replace('/both/a/', '/both/b/'), bob],
      ] as const) {
        for (const answer of await tryAll(guarded, where, who as Headers))
          expectError(answer, 404, 'BLOB_UPLOAD_UNKNOWN');
      }
      for (const answer of await tryAll(guarded, location, carol as Headers))
        assert.ok([403, 404].includes(answer.status), String(answer.status));
      for (const answer of await tryAll(guarded, location, {})) expectError(answer, 401, 'UNAUTHORIZED');
      const status = await ask(guarded, 'GET', location, { headers: alice });
      expectStatus(status, 204);
      assert.equal(status.header('range'), stored === 0 ? '0-0' : `0-${stored - 1}`);
      expectStatus(
        await ask(guarded, 'PUT', withQuery(location, `digest=${digestOf(bytes)}`), { headers: alice }),
        201,
      );
    });
  }

  it('T9 hash states are plain data: nothing that carries code is ever read back', () => {
    for (const file of globSync('src/**/*.ts', { cwd: ROOT })) {
      const text = readFileSync(join(ROOT, file), 'utf8');
      assert.doesNotMatch(text, /v8\.deserialize|from 'node:v8'|\bnew Function\(|\beval\(|node:vm'/, file);
    }
  });

  it('T9 an upload whose process died goes on at its offset, and its hash is right', async () => {
    const data = temporaryFolder('data');
    const bytes = bytesOf(300_000);
    const first = await startLongshore({ data });
    const location = await startUpload(first, 't9');
    expectStatus(await ask(first, 'PATCH', location, { body: bytes.subarray(0, 200_000) }), 202);
    await first.kill();
    const second = await startLongshore({ data });
    try {
      const status = await get(second, location);
      expectStatus(status, 204);
      assert.equal(status.header('range'), '0-199999');
      expectStatus(
        await ask(second, 'PATCH', location, {
          headers: { 'content-range': '200000-299999' },
          body: bytes.subarray(200_000),
        }),
        202,
      );
      expectError(
        await ask(second, 'PUT', withQuery(await spare(second), `digest=${digestOf(bytes)}`), {
          body: bytes.subarray(1),
        }),
        400,
        'DIGEST_INVALID',
      );
      expectStatus(await ask(second, 'PUT', withQuery(location, `digest=${digestOf(bytes)}`)), 201);
      assert.ok((await get(second, `/v2/t9/blobs/${digestOf(bytes)}`)).body.equals(bytes));
    } finally {
      await second.kill();
    }
  });

  const spare = (place: { host: string; port: number }): Promise<string> => startUpload(place, 't9');

  it('T10 an upload id with any character changed, cut, lengthened or pieced together is unknown', async () => {
    const location = await startUpload(server, 't10/a');
    const other = await startUpload(server, 't10/a');
    const slash = location.lastIndexOf('/') + 1;
    const id = location.slice(slash);
    const second = other.slice(slash);
    const forged = new Set<string>();
    for (let i = 0; i < id.length; i += 1) forged.add(id.slice(0, i) + (id[i] === 'A' ? 'B' : 'A') + id.slice(i + 1));
    for (let i = 1; i < id.length; i += 5) forged.add(id.slice(0, i) + second.slice(i));
    for (const text of [
      id.slice(0, -1),
      `${id}A`,
      `${id}=`,
      id.toLowerCase(),
      id.toUpperCase(),
      id.replaceAll('-', '+'),
      `${id}%00`,
      '0'.repeat(36),
      'x'.repeat(5000),
    ]) {
      if (text !== id) forged.add(text);
    }
    for (const text of forged) {
      const answer = await get(server, location.slice(0, slash) + text);
      assert.ok([400, 404].includes(answer.status), `${text}: ${answer.status}`);
      if (!text.includes('%')) expectError(answer, 404, 'BLOB_UPLOAD_UNKNOWN');
    }
    expectStatus(await get(server, location), 204);
  });

  it('T10 repository and account cannot flow into each other, and an id holds after a restart', async () => {
    // "t10/ab" + "anonymous" against "t10/a" + "banonymous": only fields behind their lengths tell them apart.
    const location = await startUpload(server, 't10/ab');
    expectError(await get(server, location.replace('/t10/ab/', '/t10/a/')), 404, 'BLOB_UPLOAD_UNKNOWN');
    const data = temporaryFolder('data');
    const first = await startLongshore({ data });
    const kept = await startUpload(first, 't10/restart');
    await first.kill();
    const again = await startLongshore({ data });
    const elsewhere = await startLongshore();
    try {
      expectStatus(await ask(again, 'PUT', withQuery(kept, `digest=${digestOf('x')}`), { body: 'x' }), 201);
      expectError(await get(elsewhere, kept), 404, 'BLOB_UPLOAD_UNKNOWN');
    } finally {
      await again.kill();
      await elsewhere.kill();
    }
  });

  it('T11 PATCH and PUT of one upload race 200 times: what was committed is what was said', async () => {
    for (let i = 0; i < 200; i += 1) {
      const repository = `t11/${i % 7}`;
      const size = i % 2 === 0 ? 200 : 40_000;
      const begin = bytesOf(size);
      const late = bytesOf(size);
      const location = await startUpload(server, repository);
      expectStatus(await ask(server, 'PATCH', location, { body: begin }), 202);
      const digest = digestOf(begin);
      const whole = Buffer.concat([begin, late]);
      const [patched, short, long] = await Promise.all([
        ask(server, 'PATCH', location, { body: late }),
        ask(server, 'PUT', withQuery(location, `digest=${digest}`)),
        ask(
          server,
          'PUT',
          withQuery(location, `digest=${digestOf(whole)}`),
          i % 3 === 0 ? { headers: { 'content-range': `${size}-${size * 2 - 1}` }, body: late } : {},
        ),
      ]);
      for (const answer of [patched, short, long])
        assert.ok([201, 202, 400, 404, 409, 416].includes(answer.status), `${answer.status} ${answer.text()}`);
      const created = [short, long].filter((answer) => answer.status === 201);
      assert.ok(created.length <= 1, 'two commits of one upload');
      for (const [answer, bytes] of [
        [short, begin],
        [long, whole],
      ] as const) {
        const read = await get(server, `/v2/${repository}/blobs/${digestOf(bytes)}`);
        assert.equal(read.status, answer.status === 201 ? 200 : 404);
        if (answer.status === 201) assert.ok(read.body.equals(bytes), 'the bytes are not those of the digest');
      }
    }
  });

  it('T11 a last chunk out of order is 416', async () => {
    const location = await startUpload(server, 't11/order');
    expectStatus(await ask(server, 'PATCH', location, { body: 'hello' }), 202);
    const put = (range: string): Promise<Answer> =>
      ask(server, 'PUT', withQuery(location, `digest=${digestOf('helloHELLO')}`), {
        headers: { 'content-range': range },
        body: 'HELLO',
      });
    for (const range of ['0-4', '4-8', '6-10', '10-14']) expectError(await put(range), 416, 'RANGE_INVALID');
    expectStatus(await put('5-9'), 201);
  });

  it('T12 what is given up in the middle leaves no descriptor open and no file once it is cancelled', async () => {
    const own = await startLongshore();
    try {
      const files = (): string[] =>
        globSync(join(own.data, '**/*')).filter((path) => statSync(path, { throwIfNoEntry: false })?.size === 61_440);
      const descriptors = (): string[] => globSync(`/proc/${own.pid}/fd/*`);
      await pushBlob(own, 't12', bytesOf(100_000));
      const before = descriptors().length;
      const locations: string[] = [];
      for (let i = 0; i < 30; i += 1) {
        const location = await startUpload(own, 't12');
        locations.push(location);
        const wire = await Wire.connect(own);
        await wire.send(head('PATCH', location, ['Content-Length: 100000']));
        await wire.send(bytesOf(61_440));
        await pause(5);
        if (i % 2 === 0) wire.destroy();
        else wire.socket.resetAndDestroy();
      }
      for (const location of locations) {
        for (let i = 0; ; i += 1) {
          const answer = await ask(own, 'DELETE', location);
          if ([204, 404].includes(answer.status)) break;
          assert.ok(i < 2_400, `${answer.status} ${answer.text()}`);
          await pause(50);
        }
      }
      for (let i = 0; files().length > 0 || descriptors().length > before + 5; i += 1) {
        assert.ok(i < 2_400, `left: ${files().join()} descriptors ${before} -> ${descriptors().length}`);
        await pause(50);
      }
    } finally {
      await own.kill();
    }
  });

  it('T12 uploads that were begun and left, also by a kill, are gone with file and row after their lifetime', async () => {
    const data = temporaryFolder('data');
    const config = { uploads: { lifetime: '1m' }, gc: { tick: '1s' } };
    const files = (): string[] =>
      globSync(join(data, '**/*')).filter((path) => {
        const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
        return !/\.db(-|$)/.test(path) && (size === 100_000 || (size > 32_768 && size < 100_000));
      });
    const first = await startLongshore({ data, config });
    const locations: string[] = [];
    for (const size of [10, 40_000, 100_000]) {
      const location = await startUpload(first, 't12/left');
      expectStatus(await ask(first, 'PATCH', location, { body: bytesOf(size) }), 202);
      locations.push(location);
    }
    const cut = await startUpload(first, 't12/left');
    const wire = await Wire.connect(first);
    await wire.send(head('PATCH', cut, ['Content-Length: 90000']));
    await wire.send(bytesOf(60_000));
    await pause(200);
    assert.ok(files().length >= 2, files().join());
    await first.kill();
    wire.destroy();
    const young = await startLongshore({ data, config });
    for (const location of locations) expectStatus(await get(young, location), 204);
    await young.kill();
    passTicks(data, 1000);
    const old = await startLongshore({ data, config });
    try {
      await eventually('no file is left', () => (files().length === 0 ? true : undefined));
      await eventually('no row is left', () => (rowsOf(data, 'upload') === 0 ? true : undefined));
      for (const location of [...locations, cut]) expectError(await get(old, location), 404, 'BLOB_UPLOAD_UNKNOWN');
    } finally {
      await old.kill();
    }
  });

  it('T13 two writers of the same small things, many times: never a mixture', async () => {
    for (let round = 0; round < 60; round += 1) {
      const blob = bytesOf(50 + round);
      const [one, two] = [`{"round":${round},"by":1}`, `{"round":${round},"by":2}`];
      await Promise.all([
        pushBlob(server, 't13/a', blob),
        pushBlob(server, 't13/a', blob),
        pushBlob(server, 't13/b', blob),
      ]);
      await pushBlob(server, 't13/a', EMPTY_CONFIG);
      const manifests = [one, two].map((note) => imageManifest(EMPTY_CONFIG, [blob], { annotations: { note } }));
      const puts = await Promise.all(manifests.map((text) => putManifest(server, 't13/a', 'moved', text)));
      for (const put of puts) expectStatus(put, 201);
      const read = await get(server, '/v2/t13/a/manifests/moved');
      assert.ok(manifests.includes(read.text()), 'the tag shows what nobody pushed');
      assert.equal(read.header('docker-content-digest'), digestOf(read.body));
      for (const name of ['t13/a', 't13/b'])
        assert.ok((await get(server, `/v2/${name}/blobs/${digestOf(blob)}`)).body.equals(blob));
    }
  });
});
