/** Upstreams that lie: nothing of it reaches whoever reads, and no request is made of it. */
import assert from 'node:assert/strict';
import type { RequestListener, ServerResponse } from 'node:http';
import { test } from 'node:test';
import { parseDigest } from '../oci/digest.ts';
import { OCI_INDEX, OCI_MANIFEST } from '../oci/media-types.ts';
import type { Registry, RegistryReader } from '../registry/registry.ts';
import {
  blob,
  callAs,
  descriptor,
  image,
  index,
  manifest,
  pullBlob,
  refused,
  repo,
  type Sample,
  tag,
} from '../registry/samples.testing.ts';
import { lying, reading } from './upstream.testing.ts';

const ann = callAs('ann');
const a = repo('team/app');
const sample = blob('0123456789');
const config = blob('{}');
const good = image(config, [sample]);

function send(
  response: ServerResponse,
  status: number,
  body: string | Uint8Array,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-length': String(Buffer.byteLength(body)), ...headers });
  response.end(body);
}

async function against(
  answer: RequestListener,
  work: (from: ReturnType<typeof reading>['registry']) => Promise<void>,
): Promise<string[]> {
  await using server = await lying(answer);
  await using upstream = reading({ url: server.origin });
  await work(upstream.registry);
  return server.asked.map(({ method, url }) => `${method} ${url}`);
}

const whole = (from: RegistryReader, range?: { start: number; end: number }): Promise<Buffer> =>
  pullBlob(from as Registry, ann, a, sample.digest, range);

test('a blob of other bytes, too many, too few, without end or encoded never ends well', async () => {
  const bodies: Record<string, RequestListener> = {
    other: (_request, response) => send(response, 200, '012345678x'),
    html: (_request, response) => send(response, 200, '<html>sign in</html>', { 'content-type': 'text/html' }),
    short: (_request, response) => {
      response.writeHead(200, { 'content-length': '10' });
      response.write('01234', () => response.destroy());
    },
    shorter: (_request, response) => send(response, 200, '01234'),
    longer: (_request, response) => send(response, 200, '0123456789 and more'),
    over: (_request, response) => {
      // Beyond the announced length.
      response.socket?.end('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n0123456789');
    },
    endless: (request, response) => {
      response.writeHead(200);
      if (request.method === 'HEAD') {
        response.end();
        return;
      }
      const more = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536)));
        response.once('drain', more);
      };
      more();
    },
    gzip: (_request, response) => send(response, 200, sample.bytes, { 'content-encoding': 'gzip' }),
    part: (_request, response) => send(response, 206, sample.bytes, { 'content-range': 'bytes 0-9/10' }),
    named: (_request, response) => send(response, 200, sample.bytes, { 'docker-content-digest': config.digest }),
    misnamed: (_request, response) => send(response, 200, sample.bytes, { 'docker-content-digest': 'sha256:../../x' }),
    nothing: (_request, response) => send(response, 204, ''),
  };
  for (const [name, answer] of Object.entries(bodies)) {
    await against(answer, async (from) => {
      await assert.rejects(whole(from), `${name} passed`);
    });
  }
  await against(
    (_request, response) => send(response, 200, sample.bytes),
    async (from) => {
      assert.deepEqual(await whole(from), sample.bytes);
    },
  );
});

test('a length that the answer does not announce is asked for', async () => {
  for (const [size, passes] of [
    [10, true],
    [9, false],
    [11, false],
  ] as const) {
    await against(
      (request, response) => {
        if (request.method === 'HEAD') response.writeHead(200, { 'content-length': String(size) }).end();
        else response.writeHead(200).end(sample.bytes);
      },
      async (from) => {
        if (passes) assert.deepEqual(await whole(from), sample.bytes);
        else await assert.rejects(whole(from));
      },
    );
  }
});

test('a part is the part that was asked for; an upstream without ranges is cut, and still hashed', async () => {
  const part = { start: 2, end: 5 };
  const parts: readonly [string, string][] = [
    ['bytes 0-2/10', '012'],
    ['bytes 2-4/4', '234'],
    ['bytes 2-5/10', '2345'],
    ['bytes 2-4/10', '23'],
    ['bytes 2-4/10', '2345'],
    ['bytes 2-4/*', '234'],
    ['', '234'],
    ['bytes 2-4', '234'],
  ];
  for (const [range, text] of parts) {
    await against(
      (_request, response) => send(response, 206, text, { 'content-range': range }),
      async (from) => {
        await assert.rejects(whole(from, part), `${range} ${text} passed`);
      },
    );
  }
  await against(
    (_request, response) => send(response, 206, '234', { 'content-range': 'bytes 2-4/10' }),
    async (from) => {
      assert.equal(String(await whole(from, part)), '234');
    },
  );
  await against(
    (_request, response) => send(response, 200, sample.bytes),
    async (from) => {
      assert.equal(String(await whole(from, part)), '234');
      assert.equal(String(await whole(from, { start: 8, end: 99 })), '89');
      await refused(whole(from, { start: 10, end: 11 }), 'RANGE_INVALID');
    },
  );
  await against(
    (_request, response) => send(response, 200, '0123456780'),
    async (from) => {
      await assert.rejects(whole(from, part));
    },
  );
});

test('manifests are hashed, parsed and bounded', async () => {
  const serving = (bytes: Uint8Array | string, headers: Record<string, string> = {}): RequestListener => {
    return (_request, response) => send(response, 200, bytes, { 'content-type': OCI_MANIFEST, ...headers });
  };
  const html = '<html>sign in</html>';
  const lies: readonly RequestListener[] = [
    serving(html, { 'content-type': 'text/html' }),
    serving(html),
    serving(good.bytes, { 'content-type': 'text/html' }),
    serving(good.bytes, { 'content-type': OCI_INDEX }),
    serving(good.bytes, { 'docker-content-digest': config.digest }),
    serving(good.bytes, { 'docker-content-digest': good.digest.toUpperCase() }),
    serving(good.bytes, { 'docker-content-digest': `md5:${'0'.repeat(32)}` }),
    serving(good.bytes, { 'content-encoding': 'br' }),
    serving('{}'),
    serving(Buffer.alloc(4 * 1024 * 1024 + 1, 32)),
    (_request, response) => {
      response.writeHead(200, { 'content-type': OCI_MANIFEST });
      const more = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536, 32)));
        response.once('drain', more);
      };
      more();
    },
  ];
  for (const [i, lie] of lies.entries()) {
    await against(lie, async (from) => {
      const error = await refused(from.getManifest(ann, a, { tag: tag('v1') }), 'UNAVAILABLE', 502);
      assert.ok(!error.message.includes('<html'), `${i}: ${error.message}`);
    });
  }
  await against(serving(good.bytes), async (from) => {
    await refused(from.getManifest(ann, a, { digest: config.digest }), 'UNAVAILABLE', 502);
    assert.deepEqual(Buffer.from((await from.getManifest(ann, a, { digest: good.digest })).bytes), good.bytes);
    assert.equal((await from.resolveManifest(ann, a, { tag: tag('v1') })).digest, good.digest);
  });
});

test('a hostile digest in a manifest, an index, a referrer or a header is refused, and nothing is asked for by it', async () => {
  const hostile = [
    'sha256:../../../etc/passwd',
    'sha256:ab',
    `sha256:${'A'.repeat(64)}`,
    `md5:${'0'.repeat(32)}`,
    `sha256:${'0'.repeat(1_000_000)}`,
    '',
    'latest',
  ];
  for (const digest of hostile) {
    const bad = { mediaType: OCI_MANIFEST, digest, size: 1 };
    const documents: Sample[] = [
      manifest({ schemaVersion: 2, mediaType: OCI_MANIFEST, config: bad, layers: [] }, OCI_MANIFEST),
      manifest({ schemaVersion: 2, mediaType: OCI_MANIFEST, config: descriptor(config), layers: [bad] }, OCI_MANIFEST),
      manifest({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: [bad] }, OCI_INDEX),
    ];
    for (const document of documents) {
      const asked = await against(
        (_request, response) => send(response, 200, document.bytes, { 'content-type': document.mediaType }),
        async (from) => {
          await refused(from.getManifest(ann, a, { tag: tag('v1') }), 'UNAVAILABLE', 502);
          await refused(from.getManifest(ann, a, { digest: document.digest }), 'UNAVAILABLE', 502);
          if (document.mediaType === OCI_INDEX) {
            await refused(from.listReferrers(ann, a, config.digest, undefined, { limit: 10 }), 'UNAVAILABLE', 502);
          }
        },
      );
      assert.ok(asked.length <= 3 && !asked.some((line) => line.includes('passwd')), asked.join());
    }
    if (digest.length > 1 && digest.length < 1_000) {
      await against(
        (_request, response) =>
          send(response, 200, '', { 'content-type': OCI_MANIFEST, 'docker-content-digest': digest }),
        async (from) => {
          await refused(from.resolveManifest(ann, a, { tag: tag('v1') }), 'UNAVAILABLE', 502);
          await refused(from.resolveBlob(ann, a, config.digest), 'UNAVAILABLE', 502);
        },
      );
    }
  }
});

test('foreign layers are never fetched', async () => {
  const foreign = image(config, [], { layers: [{ ...descriptor(sample), urls: ['http://127.0.0.1:1/layer'] }] });
  const asked = await against(
    (_request, response) => send(response, 200, foreign.bytes, { 'content-type': OCI_MANIFEST }),
    async (from) => {
      await from.getManifest(ann, a, { digest: foreign.digest });
    },
  );
  assert.deepEqual(asked, [`GET /v2/team/app/manifests/${foreign.digest}`]);
});

test('lists that lie', async () => {
  const listing = (body: string, headers: Record<string, string> = {}): RequestListener => {
    return (_request, response) => send(response, 200, body, headers);
  };
  for (const body of ['', '<html>', '[]', 'null', '{"tags":"v1"}', '{"repositories":{}}', '{"tags":{"0":"a"}}']) {
    await against(listing(body), async (from) => {
      await refused(from.listTags(ann, a, { limit: 10 }), 'UNAVAILABLE', 502);
      await refused(from.listRepositories(ann, { limit: 10 }), 'UNAVAILABLE', 502);
    });
  }
  await against(listing('{"name":"team/app","tags":null}'), async (from) => {
    assert.deepEqual(await from.listTags(ann, a, { limit: 10 }), { items: [] });
  });
  await against(listing(JSON.stringify({ tags: ['v1', '../x', '', 7, null, 'x'.repeat(200), 'v2'] })), async (from) => {
    assert.deepEqual((await from.listTags(ann, a, { limit: 10 })).items, ['v1', 'v2']);
  });
  await against(listing(JSON.stringify({ repositories: ['a/b', 'A/B', '../x', 'c'] })), async (from) => {
    assert.deepEqual((await from.listRepositories(ann, { limit: 10 })).items, ['a/b', 'c']);
  });
});

test('an upstream without pages is cut into pages; one whose Link leads elsewhere is asked by key', async () => {
  const tags = ['e', 'a', 'd', 'b', 'c'];
  await against(
    (_request, response) => send(response, 200, JSON.stringify({ tags })),
    async (from) => {
      const got: string[] = [];
      for (let after: string | undefined; ; ) {
        const page = await from.listTags(ann, a, after === undefined ? { limit: 2 } : { limit: 2, after });
        got.push(...page.items);
        if (page.next === undefined) break;
        after = page.next;
      }
      assert.deepEqual(got, ['a', 'b', 'c', 'd', 'e']);
    },
  );
  await using other = await lying((_request, response) => send(response, 200, '{"tags":["stolen"]}'));
  for (const link of [
    `${other.origin}/v2/team/app/tags/list?last=b`,
    '/v2/other/app/tags/list?last=b',
    '/token',
    '//127.0.0.1:1/',
    '/v2/team/app/tags/%2e%2e/list',
  ]) {
    const asked = await against(
      (request, response) => {
        const more = request.url?.includes('last=') === true;
        send(
          response,
          200,
          JSON.stringify({ tags: more ? ['c'] : ['a', 'b'] }),
          more ? {} : { link: `<${link}>; rel="next"` },
        );
      },
      async (from) => {
        const page = await from.listTags(ann, a, { limit: 2 });
        assert.equal(page.next, 'b');
        assert.deepEqual(await from.listTags(ann, a, { limit: 2, after: page.next }), { items: ['c'] });
      },
    );
    assert.deepEqual(asked, ['GET /v2/team/app/tags/list?n=2', 'GET /v2/team/app/tags/list?n=2&last=b']);
  }
  assert.equal(other.asked.length, 0);
});

test('a Link with a cursor of its own is followed; a path that is no page of the list is not', async () => {
  const asked = await against(
    (request, response) => {
      const second = request.url?.includes('cursor=opaque') === true;
      const headers: Record<string, string> = second
        ? {}
        : { link: '</v2/team/app/tags/list?cursor=opaque&n=2>; rel=next' };
      send(response, 200, JSON.stringify({ tags: second ? ['c'] : ['a', 'b'] }), headers);
    },
    async (from) => {
      const { next } = await from.listTags(ann, a, { limit: 2 });
      assert.deepEqual(await from.listTags(ann, a, { limit: 2, after: next! }), { items: ['c'] });
      for (const after of ['/v2/other/tags/list', '/token', '/v2/team/app/tags/list/../../../x', '//127.0.0.1:1/v2/']) {
        await refused(from.listTags(ann, a, { limit: 2, after }), 'UNSUPPORTED', 400);
      }
    },
  );
  assert.equal(asked.length, 2);
});

test('endless empty pages end', async () => {
  await against(
    (request, response) => {
      const page = Number(new URL(request.url!, 'http://x').searchParams.get('page') ?? '0');
      send(response, 200, '{"tags":[]}', { link: `</v2/team/app/tags/list?page=${page + 1}>; rel="next"` });
    },
    async (from) => {
      await refused(from.listTags(ann, a, { limit: 2 }), 'UNAVAILABLE', 502);
    },
  );
});

test('refusals become the seam’s, and never with the upstream’s words', async () => {
  const says = JSON.stringify({ errors: [{ code: 'DENIED', message: 'hush', detail: 'hush' }] });
  const cases = [
    [404, 'BLOB_UNKNOWN', undefined],
    [401, 'DENIED', undefined],
    [403, 'DENIED', undefined],
    [429, 'TOOMANYREQUESTS', 7],
    [500, 'UNAVAILABLE', 7],
    [503, 'UNAVAILABLE', 7],
    [416, 'RANGE_INVALID', undefined],
    [418, 'DENIED', undefined],
    [304, 'UNAVAILABLE', undefined],
  ] as const;
  for (const [status, code, wait] of cases) {
    await against(
      (request, response) => send(response, status, request.method === 'HEAD' ? '' : says, { 'retry-after': '7' }),
      async (from) => {
        const error = await refused(from.getBlob(ann, a, sample.digest), code);
        assert.equal(error.retryAfterSeconds, wait, String(status));
        assert.ok(!JSON.stringify([error.message, error.detail]).includes('hush'));
      },
    );
  }
  await against(
    (_request, response) => send(response, 404, '<html>'),
    async (from) => {
      await refused(from.getManifest(ann, a, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
      await refused(from.resolveManifest(ann, a, { tag: tag('v1') }), 'MANIFEST_UNKNOWN');
      await refused(from.resolveBlob(ann, a, sample.digest), 'BLOB_UNKNOWN');
      await refused(from.listTags(ann, a, { limit: 1 }), 'NAME_UNKNOWN');
      assert.deepEqual(await from.listReferrers(ann, a, sample.digest, undefined, { limit: 1 }), {
        items: [],
        filtered: false,
      });
    },
  );
});

test('without a referrers API the fallback tag is read, filtered here', async () => {
  const one = { ...descriptor(image(config, [])), artifactType: 'type/one' };
  const two = { ...descriptor(image(config, [sample])), artifactType: 'type/two', annotations: { a: 'b' } };
  const subject = parseDigest(`sha512:${'ab'.repeat(64)}`);
  const asked = await against(
    (request, response) => {
      if (request.url?.includes('/referrers/')) send(response, 404, '');
      else send(response, 200, index([two, one]).bytes, { 'content-type': OCI_INDEX });
    },
    async (from) => {
      const all = await from.listReferrers(ann, a, subject, undefined, { limit: 1 });
      assert.equal(all.items.length, 1);
      const rest = await from.listReferrers(ann, a, subject, undefined, { limit: 1, after: all.next! });
      assert.equal(rest.next, undefined);
      assert.deepEqual([...all.items, ...rest.items].map(({ artifactType }) => artifactType).sort(), [
        'type/one',
        'type/two',
      ]);
      const some = await from.listReferrers(ann, a, subject, 'type/two', { limit: 10 });
      assert.deepEqual(some, { items: [two], filtered: true });
    },
  );
  assert.ok(
    asked.some((line) => line.startsWith(`GET /v2/team/app/manifests/sha512-${'ab'.repeat(32)}?`)),
    asked.join('\n'),
  );
});
