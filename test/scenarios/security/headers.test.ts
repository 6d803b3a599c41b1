/** Threat cases 59 and 66: text in headers, numbers in queries. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import {
  digestOf,
  EMPTY_CONFIG,
  expectError,
  expectStatus,
  get,
  imageManifest,
  nextOf,
  OCI_MANIFEST,
  pushBlob,
  pushImage,
  putManifest,
} from '../support/oci.ts';
import { open } from '../support/open.ts';
import { type Answer, ask, head, rawAsk } from '../support/wire.ts';

const server = await open({
  config: { access: { anonymous: 'push' }, server: { corsOrigins: ['https://ui.example'] } },
});
const image = await pushImage(server, 'headers', 'v1');

function clean(answer: Answer, what: string): void {
  for (const [name, value] of answer.rawHeaders) {
    assert.match(value, /^[\x20-\x7e\t]*$/, `${what}: ${name}: ${JSON.stringify(value)}`);
    assert.notEqual(name, 'x-injected', what);
    assert.notEqual(name, 'set-cookie', what);
  }
}

const NASTY = [
  '%0d%0aX-Injected:%201',
  '%0aX-Injected:1',
  '%0d',
  '%00',
  '%E2%80%A8',
  '%C4%8D%C4%8AX-Injected:1',
  'a%22b',
  'a%3Eb%3C',
  '%ff',
  '%F0%9F%92%A9',
  'a,b',
  'a;b',
  '%5C',
];

function memoryKib(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'))?.[1]);
}

describe('text in headers, numbers in queries', { concurrency: 1 }, () => {
  it('T59 nothing of a request reaches a header but through its grammar or percent-encoded', async () => {
    await pushBlob(server, 'headers', EMPTY_CONFIG);
    const text = imageManifest(EMPTY_CONFIG, []);
    for (const nasty of NASTY) {
      const digest = digestOf(text);
      for (const [method, path] of [
        ['GET', `/v2/headers/tags/list?n=1&last=${nasty}`],
        ['GET', `/v2/_catalog?n=1&last=${nasty}`],
        ['GET', `/v2/headers/tags/list?n=${nasty}`],
        ['GET', `/v2/headers/tags/list?n=1&x=${nasty}`],
        ['GET', `/v2/headers/referrers/${image.digest}?artifactType=${nasty}`],
        ['GET', `/v2/headers/manifests/${nasty}`],
        ['GET', `/v2/headers/blobs/${nasty}`],
        ['GET', `/v2/${nasty}/tags/list`],
        ['GET', `/v2/headers/manifests/v1?ns=${nasty}`],
        ['POST', `/v2/headers/blobs/uploads/?mount=${nasty}&from=${nasty}`],
        ['POST', `/v2/headers/blobs/uploads/?x=${nasty}`],
        ['POST', `/v2/headers/blobs/uploads/?digest-algorithm=${nasty}`],
        ['GET', `/v2/headers/blobs/uploads/${nasty}`],
        ['OPTIONS', `/v2/headers/manifests/${nasty}`],
        ['GET', `/token?service=longshore&scope=${nasty}&account=${nasty}&client_id=${nasty}`],
        ['GET', `/token?service=${nasty}`],
      ] as const) {
        const answer = await ask(server, method, path);
        assert.ok(answer.status < 500, `${method} ${path}: ${answer.status}`);
        clean(answer, path);
      }
      for (const reference of [
        nasty,
        `${digest}?tag=${nasty}`,
        `${digest}?tag=ok&tag=${nasty}`,
        `v9?digest=${nasty}`,
      ]) {
        const answer = await putManifest(server, 'headers', reference, text);
        assert.ok([201, 400].includes(answer.status), `PUT ${reference}: ${answer.status}`);
        clean(answer, reference);
      }
    }
    for (const type of ['a\u00ff', `${OCI_MANIFEST};x=\u00e9`, `${OCI_MANIFEST};\t`, 'x'.repeat(3000)])
      clean(await putManifest(server, 'headers', 'type', text, type), type);
    for (const headers of [
      { origin: 'https://ui.example\u00ff' },
      { origin: '"><' },
      { host: 'a"b' },
      { 'x-request-id': '"\u00ff' },
      { traceparent: '\u00ff' },
      { range: 'bytes=\u00ff' },
      { 'if-none-match': '\u00ff' },
    ]) {
      const answer = await get(server, '/v2/headers/manifests/v1', headers as unknown as Record<string, string>);
      assert.ok(answer.status < 500);
      clean(answer, JSON.stringify(headers));
    }
  });

  it('T59 subject, annotations and media types come back in the body only, and OCI-Subject is a digest', async () => {
    await pushBlob(server, 'headers', EMPTY_CONFIG);
    const nasty = 'x\r\nX-Injected: 1\u0000\u00fc';
    const text = imageManifest(EMPTY_CONFIG, [], {
      subject: image.descriptor,
      artifactType: nasty,
      annotations: { [nasty]: nasty },
    });
    const put = await putManifest(server, 'headers', 'nasty', text);
    assert.ok([201, 400].includes(put.status));
    clean(put, 'put');
    clean(await get(server, '/v2/headers/manifests/nasty'), 'get');
    clean(await get(server, `/v2/headers/referrers/${image.digest}`), 'referrers');
    const mediaType = imageManifest(EMPTY_CONFIG, [], { mediaType: nasty });
    expectError(await ask(server, 'PUT', '/v2/headers/manifests/type', { body: mediaType }), 400, 'MANIFEST_INVALID');
  });

  it('T59 a filter comes back in Link percent-encoded, whatever it is made of', async () => {
    await pushBlob(server, 'headers', EMPTY_CONFIG);
    const artifactType = 'application/x; a="b>c", <d>; rel="first" \u00fc&n=1#';
    for (let i = 0; i < 4; i += 1) {
      const annotations = { i: `${i}${'x'.repeat(1_500_000)}` };
      const text = imageManifest(EMPTY_CONFIG, [], { subject: image.descriptor, artifactType, annotations });
      expectStatus(await putManifest(server, 'headers', digestOf(text), text), 201);
    }
    const found = new Set<string>();
    let path: string | undefined =
      `/v2/headers/referrers/${image.digest}?artifactType=${encodeURIComponent(artifactType)}`;
    let pages = 0;
    for (; path !== undefined; pages += 1) {
      const page: Answer = await get(server, path);
      expectStatus(page, 200);
      clean(page, 'a page of referrers');
      assert.equal(page.header('oci-filters-applied'), 'artifactType');
      for (const entry of page.json().manifests) found.add(entry.digest);
      path = nextOf(page);
      assert.ok(pages < 10);
    }
    assert.ok(pages > 1);
    assert.equal(found.size, 4);
  });

  it('T59 a control character in a query is 400, wherever it stands', async () => {
    for (const code of ['%00', '%0a', '%0d', '%1b', '%7f']) {
      for (const name of ['last', 'n', 'unknown', `la${code}st`]) {
        expectError(await get(server, `/v2/headers/tags/list?${name}=a${code}b`), 400, 'UNSUPPORTED');
      }
    }
  });

  it('T59 raw control characters in the request line or a header end the request', async () => {
    for (const target of [
      '/v2/headers/tags/list?last=\r\nX-Injected: 1',
      '/v2/\0/tags/list',
      '/v2/headers/tags/list?last=\x7f',
      '/v2/headers/tags/list?last=\u00ff',
    ]) {
      const answer = await rawAsk(server, Buffer.from(head('GET', target), 'latin1'));
      assert.ok(answer.status === 400 || !target.includes('\0'), target);
      assert.ok(answer.status < 500);
      clean(answer, target);
    }
  });

  it('T66 numbers without sense are refused or clamped, and cost no memory', async () => {
    for (const tag of ['a', 'b', 'c']) expectStatus(await putManifest(server, 'headers', tag, image.manifest), 201);
    const before = memoryKib();
    for (let round = 0; round < 20; round += 1) {
      for (const n of [
        '1000000000',
        '9223372036854775807',
        '9223372036854775808',
        '99999999999999999999999999',
        `${'9'.repeat(4000)}`,
        '00000000002',
      ]) {
        for (const path of [`/v2/headers/tags/list?n=${n}`, `/v2/_catalog?n=${n}`])
          expectStatus(await get(server, path), 200);
      }
      for (const n of ['-1', '1e3', '1E9', '0x7fffffff', 'Infinity', 'NaN', '1_000', '1,000', '1.0', '%EF%BC%91']) {
        for (const path of [`/v2/headers/tags/list?n=${n}`, `/v2/_catalog?n=${n}`]) {
          expectError(await get(server, path), 400, 'PAGINATION_NUMBER_INVALID');
        }
      }
    }
    assert.ok(memoryKib() - before < 150_000, `${before} -> ${memoryKib()} KiB`);
    const two = await get(server, '/v2/headers/tags/list?n=00000000002');
    assert.equal(two.json().tags.length, 2);
    assert.notEqual(nextOf(two), undefined);
    expectError(
      await get(server, '/v2/headers/tags/list?n=1&n=2'),
      400,
      (await get(server, '/v2/headers/tags/list?n=1&n=2')).json().errors[0].code,
    );
    const long = await get(server, `/v2/headers/tags/list?last=${'x'.repeat(1025)}`);
    assert.equal(long.status, 400);
  });
});
