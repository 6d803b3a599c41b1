/** Threat cases 1-6: names, paths, digests. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { startLongshore } from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { withTools } from '../../support/tools.ts';
import {
  basic,
  bytesOf,
  descriptor,
  digestOf,
  EMPTY_CONFIG,
  expectError,
  expectStatus,
  get,
  imageIndex,
  imageManifest,
  OCI_INDEX,
  OCI_MANIFEST,
  pushBlob,
  pushImage,
  putManifest,
} from '../support/oci.ts';
import { closed, open, PASSWORDS } from '../support/open.ts';
import { type Answer, ask, head, rawAsk, Wire } from '../support/wire.ts';

const server = await open();
const guarded = await closed();
const alice = basic('alice', PASSWORDS.alice);
await pushImage(server, 'names/app', 'v1');
await pushImage(guarded, 'team/app', 'v1', { headers: alice });

/** Ways out of a folder, as they have been tried on others. */
const ESCAPES = [
  '%2f',
  '%2F..%2F..%2F..%2Fetc%2Fpasswd',
  '..%2f..%2fetc%2fpasswd',
  '%2e%2e/%2e%2e/etc/passwd',
  '../../../../etc/passwd',
  '..;/..;/etc/passwd',
  '..%5c..%5cetc%5cpasswd',
  '..\\..\\etc\\passwd',
  '%5c%5cserver%5cshare',
  '%c0%ae%c0%ae%c0%afetc%c0%afpasswd',
  '%e0%80%ae%e0%80%ae/etc/passwd',
  '%252e%252e%252fetc%252fpasswd',
  '%00',
  'x%00.json',
  '//',
  '.',
  '..',
  '%',
  '%zz',
  '%u002e',
  'x%0d%0aSet-Cookie:%20a=b',
  '%ff%fe',
  '~root',
  'file:%2f%2f%2fetc%2fpasswd',
];

/** Targets in which the text stands at every place where a name, tag, digest or id may stand. */
function targets(text: string): string[] {
  const digest = digestOf('x');
  return [
    `/v2/${text}`,
    `/v2/${text}/manifests/v1`,
    `/v2/names/${text}/manifests/v1`,
    `/v2/names/app/${text}/v1`,
    `/v2/names/app/manifests/${text}`,
    `/v2/names/app/blobs/${text}`,
    `/v2/names/app/blobs/sha256:${text}`,
    `/v2/names/app/blobs/uploads/${text}`,
    `/v2/names/app/referrers/${text}`,
    `/v2/names/app/tags/${text}`,
    `/v2/${text}/blobs/${digest}`,
    `/v2/${text}/tags/list`,
    `/${text}`,
    `/${text}/v2/`,
    `/v2${text}`,
  ];
}

describe('names', { concurrency: true }, () => {
  for (const method of ['GET', 'HEAD', 'PUT', 'PATCH', 'POST', 'DELETE']) {
    it(`T1 no escape in a path opens anything (${method})`, async () => {
      for (const text of ESCAPES) {
        for (const target of targets(text)) {
          const length = ['PUT', 'PATCH', 'POST'].includes(method) ? ['Content-Length: 0'] : [];
          const answer = await rawAsk(server, head(method, target, length), method);
          assert.ok(
            [400, 404, 405, 415].includes(answer.status),
            `${method} ${target}: ${answer.status} ${answer.text()}`,
          );
          assert.doesNotMatch(answer.text(), /root:/);
          assert.equal(answer.header('set-cookie'), '');
          if (target.startsWith('/v2/') && method !== 'HEAD') {
            const body = answer.json();
            assert.ok(Array.isArray(body.errors), `${target}: ${answer.text()}`);
          }
        }
      }
    });
  }

  for (const [what, request] of [
    ['absolute-form', 'GET http://registry.test/v2/names/app/manifests/v1 HTTP/1.1\r\nHost: registry.test\r\n\r\n'],
    ['absolute-form of another host', 'GET http://evil.example/v2/ HTTP/1.1\r\nHost: registry.test\r\n\r\n'],
    ['a fragment', head('GET', '/v2/names/app/manifests/v1#x')],
    ['raw non-ASCII', head('GET', '/v2/names/\u00fc/manifests/v1')],
    ['no Host', 'GET /v2/ HTTP/1.1\r\n\r\n'],
    ['two Hosts', head('GET', '/v2/', ['Host: other.test'])],
    [
      'Transfer-Encoding with Content-Length',
      `${head('POST', '/v2/names/app/blobs/uploads/', ['Content-Length: 4', 'Transfer-Encoding: chunked'])}0\r\n\r\n`,
    ],
    [
      'Transfer-Encoding gzip, chunked',
      `${head('POST', '/v2/names/app/blobs/uploads/', ['Transfer-Encoding: gzip, chunked'])}0\r\n\r\n`,
    ],
    ['Transfer-Encoding identity', head('POST', '/v2/names/app/blobs/uploads/', ['Transfer-Encoding: identity'])],
    ['two Content-Lengths', head('POST', '/v2/names/app/blobs/uploads/', ['Content-Length: 0', 'Content-Length: 4'])],
    ['a negative Content-Length', head('POST', '/v2/names/app/blobs/uploads/', ['Content-Length: -1'])],
    ['a folded header', 'GET /v2/ HTTP/1.1\r\nHost: registry.test\r\nX-A: b\r\n c\r\n\r\n'],
    ['a header with a blank before the colon', 'GET /v2/ HTTP/1.1\r\nHost: registry.test\r\nX-A : b\r\n\r\n'],
    ['a NUL in a header', 'GET /v2/ HTTP/1.1\r\nHost: registry.test\r\nX-A: b\0c\r\n\r\n'],
    ['a bare LF', 'GET /v2/ HTTP/1.1\nHost: registry.test\n\n'],
    ['a bare LF between headers', 'GET /v2/ HTTP/1.1\r\nHost: registry.test\nX-A: b\r\n\r\n'],
    ['an unknown method', head('FROB', '/v2/')],
    ['an unknown version', 'GET /v2/ HTTP/3.7\r\nHost: registry.test\r\n\r\n'],
    ['no request at all', 'hello\r\n\r\n'],
    ['a TLS hello', Buffer.from('16030100c8010000c403035348a5', 'hex')],
    [
      'a chunk size that is none',
      `${head('PATCH', '/v2/names/app/blobs/uploads/x', ['Transfer-Encoding: chunked'])}zz\r\nabc\r\n0\r\n\r\n`,
    ],
  ] as const) {
    it(`T1 framing: ${what} is 400 and the end of the connection`, async () => {
      const wire = await Wire.connect(server);
      await wire.send(typeof request === 'string' ? Buffer.from(request, 'latin1') : request);
      const answer = await wire.answer();
      // A name that is refused before its body is read may be refused as such.
      assert.ok([400, 404].includes(answer.status), `${answer.status} ${answer.text()}`);
      if (answer.status === 400) assert.ok(Array.isArray(answer.json().errors), answer.text());
      if (!what.startsWith('a chunk size')) assert.equal(answer.status, 400);
      await wire.ended();
      wire.destroy();
    });
  }

  it('T1 CONNECT and TRACE are 405', async () => {
    for (const [method, target] of [
      ['TRACE', '/v2/'],
      ['CONNECT', '/v2/'],
    ] as const) {
      const answer = await rawAsk(server, head(method, target));
      assert.ok([400, 405].includes(answer.status), `${method} ${answer.status}`);
    }
    const forward = await rawAsk(server, 'CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n');
    assert.ok([400, 405].includes(forward.status), String(forward.status));
  });

  withTools(['strace'], 'T1 the escapes under strace', (strace) => {
    it('T1 no escape makes the server open a file outside its folders', async () => {
      const trace = join(temporaryFolder('strace'), 'trace');
      const data = temporaryFolder('data');
      const traced = await startLongshore({
        data,
        wrapper: [strace, '-f', '-qq', '-e', 'trace=open,openat,openat2,creat', '-o', trace],
      });
      try {
        await pushImage(traced, 'names/app', 'v1');
        const before = readFileSync(trace, 'utf8').length;
        for (const text of ESCAPES) {
          for (const target of targets(text)) await rawAsk(traced, head('GET', target));
        }
        const opened = readFileSync(trace, 'utf8').slice(before);
        const paths = [...opened.matchAll(/open(?:at|at2)?\([^"\n]*"([^"]*)"/g)].map((match) => match[1]!);
        const strange = paths.filter(
          (path) =>
            path.startsWith('/') &&
            !path.startsWith(data) &&
            !path.startsWith('/proc/') &&
            !path.startsWith('/sys/') &&
            !/node_modules|\/src\/|\/dist\/|\.(ts|js|mjs|node|so[.0-9]*)$/.test(path),
        );
        assert.deepEqual(strange, []);
        assert.ok(!opened.includes('passwd'));
      } finally {
        // The tracer's end would leave what it traces running.
        for (const child of readFileSync(`/proc/${traced.pid}/task/${traced.pid}/children`, 'utf8').trim().split(' ')) {
          if (child !== '') process.kill(Number(child), 'SIGKILL');
        }
        await traced.exited;
      }
    });
  });

  it('T2 no spelling of a guarded route is decided otherwise than the plain one', async () => {
    const plain = await get(guarded, '/v2/team/app/manifests/v1');
    expectError(plain, 401, 'UNAUTHORIZED');
    for (const target of [
      '/v2/team/app/manifests/%76%31',
      '/v2/team/app/manifests/v%31',
      '/v2/team%2fapp/manifests/v1',
      '/v2/team%2Fapp/manifests/v1',
      '/v2/te%61m/app/manifests/v1',
      '/v2/team/app/%6danifests/v1',
      '/%76%32/team/app/manifests/v1',
      '/v2%2fteam/app/manifests/v1',
      '/V2/team/app/manifests/v1',
      '/v2/TEAM/app/manifests/v1',
      '//v2/team/app/manifests/v1',
      '/v2//team/app/manifests/v1',
      '/./v2/team/app/manifests/v1',
      '/x/../v2/team/app/manifests/v1',
      '/v2/public/../team/app/manifests/v1',
      '/v2/team/app/manifests/v1/',
      '/v2/team/app/manifests/v1?x=/v2/',
      '/v2/team/app/manifests/v1;a=b',
      '/v2;/team/app/manifests/v1',
      '/v2/team/app/manifests//v1',
      '/v2/team/app/manifests/v1%3f',
      '/v2/team/app/manifests/v1%23',
    ]) {
      for (const method of ['GET', 'HEAD']) {
        const answer = await rawAsk(guarded, head(method, target), method);
        assert.ok([400, 401, 404].includes(answer.status), `${method} ${target}: ${answer.status}`);
        assert.ok(!answer.text().includes('schemaVersion'), target);
        assert.equal(answer.header('docker-content-digest'), '');
        if (!target.startsWith('/v2/'))
          assert.notEqual(answer.header('docker-distribution-api-version'), 'registry/2.0', target);
      }
      const put = await rawAsk(guarded, head('PUT', target, ['Content-Length: 0']));
      assert.ok([400, 401, 404, 405].includes(put.status), `PUT ${target}: ${put.status}`);
    }
    // What is the same route is the same for who may.
    expectStatus(await get(guarded, '/v2/team/app/manifests/%76%31', alice), 200);
  });

  it('T3 names made of the words of routes live side by side', async () => {
    const names = [
      't3/a',
      't3/a/b',
      't3/a/b/c',
      't3/a/blobs',
      't3/a/blobs/uploads',
      't3/a/manifests/x',
      't3/a/tags/list',
      't3/a/referrers/x',
      't3/a/manifests',
      't3/a/tags',
    ];
    const digests = new Map<string, string>();
    for (const name of names)
      digests.set(name, (await pushImage(server, name, 'v1', { more: { annotations: { name } } })).digest);
    for (const name of names) {
      const read = await get(server, `/v2/${name}/manifests/v1`);
      expectStatus(read, 200);
      assert.equal(read.header('docker-content-digest'), digests.get(name));
      assert.deepEqual((await get(server, `/v2/${name}/tags/list`)).json(), { name, tags: ['v1'] });
    }
    const listed: string[] = (await get(server, '/v2/_catalog')).json().repositories;
    assert.deepEqual(
      listed.filter((name) => name.startsWith('t3/')),
      [...names].sort(),
    );
    expectStatus(await ask(server, 'DELETE', `/v2/t3/a/manifests/${digests.get('t3/a')}`), 202);
    for (const name of names.slice(1)) expectStatus(await get(server, `/v2/${name}/manifests/v1`), 200);
  });

  it('T4 names outside the grammar are 400 before anything is asked of the store; case never folds', async () => {
    const long = `t4/${'x'.repeat(253)}`;
    for (const name of [
      'T4/a',
      't4/A',
      't4/\u00df'.replace('\u00df', '%C3%9F'),
      't4/a%cc%81',
      't4/%ef%bc%a1',
      long,
      't4/a-',
      't4/.a',
      't4/a___b',
      't4/a b'.replace(' ', '%20'),
    ]) {
      for (const [method, path] of [
        ['GET', 'manifests/v1'],
        ['PUT', 'manifests/v1'],
        ['DELETE', 'manifests/v1'],
        ['POST', 'blobs/uploads/'],
        ['GET', 'tags/list'],
        ['GET', `referrers/${digestOf('x')}`],
        ['HEAD', `blobs/${digestOf('x')}`],
      ] as const) {
        const answer = await ask(server, method, `/v2/${name}/${path}`);
        assert.equal(answer.status, 400, `${method} ${name}`);
        if (method !== 'HEAD') expectError(answer, 400, 'NAME_INVALID');
        // To someone without any right too: the answer tells nothing.
        assert.equal((await ask(guarded, method, `/v2/${name}/${path}`)).status, 400);
      }
    }
    const tagged = await pushImage(server, 't4/case', 'Tag');
    const other = await pushImage(server, 't4/case', 'tag');
    assert.notEqual(tagged.digest, other.digest);
    assert.equal((await get(server, '/v2/t4/case/manifests/Tag')).header('docker-content-digest'), tagged.digest);
    expectError(await get(server, '/v2/t4/case/manifests/TAG'), 404, 'MANIFEST_UNKNOWN');
    expectError(await putManifest(server, 't4/case', 'x'.repeat(129), tagged.manifest), 400, 'NAME_INVALID');
  });

  const hex = digestOf('x').slice(7);
  const malformed = [
    'sha256:../../x',
    'sha256:..%2f..%2fx',
    'sha256:',
    `sha256:${hex.slice(2)}`,
    `sha256:${hex}00`,
    `sha256:${hex.toUpperCase()}`,
    `Sha256:${hex}`,
    `md5:${hex.slice(0, 32)}`,
    `sha512:${hex}`,
    `sha384:${hex}${hex.slice(0, 32)}`,
    `sha256+b64:${hex}`,
    `sha256:${hex} `.replace(' ', '%20'),
    `:${hex}`,
    `a:b:${hex}`,
    `sha256:${'g'.repeat(64)}`,
  ];

  it('T5 a digest that is none, inside a manifest or an index, is refused and nothing is made of it', async () => {
    await pushBlob(server, 't5', EMPTY_CONFIG);
    const path = join(server.data, 'escaped');
    for (const digest of [
      ...malformed.map(decodeURIComponent),
      `sha256:${'a'.repeat(1024 * 1024)}`,
      `sha256:${path}`,
      '',
      null,
      5,
      { a: 1 },
      `sha256:${hex}\u0000`,
    ]) {
      const bad = { ...descriptor(EMPTY_CONFIG, 'application/octet-stream'), digest };
      for (const [text, type] of [
        [imageManifest(EMPTY_CONFIG, [], { layers: [bad] }), OCI_MANIFEST],
        [imageManifest(EMPTY_CONFIG, [], { config: bad }), OCI_MANIFEST],
        [imageManifest(EMPTY_CONFIG, [], { subject: { ...bad, mediaType: OCI_MANIFEST } }), OCI_MANIFEST],
        [imageIndex([{ ...bad, mediaType: OCI_MANIFEST } as never]), OCI_INDEX],
        [imageIndex([], { subject: { ...bad, mediaType: OCI_MANIFEST } }), OCI_INDEX],
      ] as const) {
        expectError(await putManifest(server, 't5', 'v1', text, type), 400, 'MANIFEST_INVALID');
      }
    }
    expectError(await get(server, '/v2/t5/manifests/v1'), 404, 'MANIFEST_UNKNOWN');
    assert.equal(existsSync(path), false);
  });

  it('T6 whatever has a colon and is no digest is 400 DIGEST_INVALID for every verb', async () => {
    for (const text of malformed) {
      for (const query of [`digest=${text}`, `mount=${text}&from=names/app`]) {
        expectError(await ask(server, 'POST', `/v2/names/app/blobs/uploads/?${query}`), 400, 'DIGEST_INVALID');
      }
      // With a slash it is two parts of a path.
      if (text.includes('/')) continue;
      const answers: [string, Answer][] = [];
      for (const method of ['GET', 'HEAD', 'DELETE', 'PUT']) {
        answers.push([
          method,
          await ask(
            server,
            method,
            `/v2/names/app/manifests/${text}`,
            method === 'PUT' ? { headers: { 'content-type': OCI_MANIFEST }, body: '{}' } : {},
          ),
        ]);
      }
      for (const method of ['GET', 'HEAD', 'DELETE'])
        answers.push([method, await ask(server, method, `/v2/names/app/blobs/${text}`)]);
      for (const method of ['GET', 'HEAD'])
        answers.push([method, await ask(server, method, `/v2/names/app/referrers/${text}`)]);
      for (const [method, answer] of answers) {
        assert.equal(answer.status, 400, `${method} ${text}: ${answer.status} ${answer.text()}`);
        if (method !== 'HEAD') expectError(answer, 400, 'DIGEST_INVALID');
      }
    }
    for (const text of ['nodigest', hex, 'sha256', '-']) {
      expectError(await get(server, `/v2/names/app/blobs/${text}`), 400, 'DIGEST_INVALID');
    }
  });

  it('T3 a repository that is only the beginning of another is not that other', async () => {
    const digest = await pushBlob(server, 't3b/deep/er', bytesOf(20));
    expectError(await get(server, `/v2/t3b/deep/blobs/${digest}`), 404, 'BLOB_UNKNOWN');
    expectError(await get(server, `/v2/t3b/deep/er/x/blobs/${digest}`), 404, 'BLOB_UNKNOWN');
  });
});
