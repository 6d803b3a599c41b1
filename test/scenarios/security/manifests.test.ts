/** Threat cases 7 and 14-19: manifests and JSON. */
import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:net';
import { after, describe, it } from 'node:test';
import {
  type Descriptor,
  descriptor,
  digestOf,
  EMPTY_CONFIG,
  expectError,
  expectStatus,
  get,
  imageIndex,
  imageManifest,
  OCI_CONFIG,
  OCI_INDEX,
  OCI_LAYER,
  OCI_MANIFEST,
  pushBlob,
  pushImage,
  putManifest,
} from '../support/oci.ts';
import { open } from '../support/open.ts';
import { ask, head, Wire } from '../support/wire.ts';

const server = await open();
const MIB = 1024 * 1024;

async function listening(onConnection: () => void): Promise<number> {
  const trap: Server = createServer((socket) => {
    onConnection();
    socket.destroy();
  });
  await new Promise<void>((resolve) => trap.listen(0, '127.0.0.1', resolve));
  after(() => trap.close());
  return (trap.address() as { port: number }).port;
}

describe('manifests', { concurrency: true }, () => {
  it('T7 while a tag moves, every GET tells the digest of the bytes it sends', async () => {
    await pushBlob(server, 't7', EMPTY_CONFIG);
    const texts = Array.from({ length: 5 }, (_, i) =>
      imageManifest(EMPTY_CONFIG, [], { annotations: { i: String(i), pad: 'x'.repeat(i * 3000) } }),
    );
    for (const text of texts) expectStatus(await putManifest(server, 't7', 'moving', text), 201);
    let moving = true;
    const mover = (async () => {
      for (let i = 0; i < 300; i += 1) expectStatus(await putManifest(server, 't7', 'moving', texts[i % 5]!), 201);
      moving = false;
    })();
    const seen = new Set<string>();
    const reader = async (): Promise<void> => {
      while (moving) {
        const read = await get(server, '/v2/t7/manifests/moving');
        expectStatus(read, 200);
        assert.equal(read.header('docker-content-digest'), digestOf(read.body));
        assert.equal(read.header('etag'), `"${digestOf(read.body)}"`);
        assert.equal(read.header('content-length'), String(read.body.length));
        seen.add(digestOf(read.body));
      }
    };
    await Promise.all([mover, reader(), reader(), reader()]);
    assert.ok(seen.size > 1);
  });

  it('T14 what two readers could take for two things is refused', async () => {
    const image = await pushImage(server, 't14', 'good');
    const good = image.manifest;
    const document = JSON.parse(good);
    const cases: [string, string | Buffer, string][] = [
      ['layers and manifests', JSON.stringify({ ...document, manifests: [] }), OCI_MANIFEST],
      [
        'layers and manifests, as an index',
        JSON.stringify({ ...document, mediaType: OCI_INDEX, manifests: [] }),
        OCI_INDEX,
      ],
      ['an index with a config', imageIndex([], { config: document.config }), OCI_INDEX],
      ['an index with layers', imageIndex([], { layers: [] }), OCI_INDEX],
      ['type unlike Content-Type', good, OCI_INDEX],
      ['duplicate key', good.replace('"schemaVersion":2', '"schemaVersion":2,"schemaVersion":2'), OCI_MANIFEST],
      ['duplicate mediaType', good.replace('{', `{"mediaType":"${OCI_INDEX}",`), OCI_MANIFEST],
      ['duplicate key, spelled otherwise', good.replace('{', '{"\\u006cayers":[],'), OCI_MANIFEST],
      [
        'duplicate key within a descriptor',
        good.replace('"digest":', `"digest":"${digestOf('x')}","digest":`),
        OCI_MANIFEST,
      ],
      ['byte order mark', Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from(good)]), OCI_MANIFEST],
      ['UTF-16', Buffer.from(good, 'utf16le'), OCI_MANIFEST],
      [
        'invalid UTF-8',
        Buffer.concat([
          Buffer.from(good.slice(0, -1)),
          Buffer.from(',"x":"'),
          Buffer.from([0xc3, 0x28]),
          Buffer.from('"}'),
        ]),
        OCI_MANIFEST,
      ],
      ['trailing bytes', `${good}x`, OCI_MANIFEST],
      ['a second document', `${good}${good}`, OCI_MANIFEST],
      ['trailing NUL', `${good}\0`, OCI_MANIFEST],
      ['a comment', `/* x */${good}`, OCI_MANIFEST],
      ['a trailing comma', good.replace(/\}$/, ',}'), OCI_MANIFEST],
      ['single quotes', good.replaceAll('"', "'"), OCI_MANIFEST],
      ['NaN', good.replace('"schemaVersion":2', '"schemaVersion":NaN'), OCI_MANIFEST],
      ['an array', `[${good}]`, OCI_MANIFEST],
      ['a string', JSON.stringify(good), OCI_MANIFEST],
      ['null', 'null', OCI_MANIFEST],
      ['nothing', '', OCI_MANIFEST],
      ['layers that are no list', JSON.stringify({ ...document, layers: { 0: document.layers[0] } }), OCI_MANIFEST],
      ['a layer that is text', JSON.stringify({ ...document, layers: [digestOf('x')] }), OCI_MANIFEST],
      ['schemaVersion 1', JSON.stringify({ ...document, schemaVersion: 1 }), OCI_MANIFEST],
    ];
    for (const [what, body, type] of cases) {
      const answer = await putManifest(server, 't14', 'bad', body, type);
      assert.equal(answer.status, 400, `${what}: ${answer.status} ${answer.text()}`);
      expectError(answer, 400, 'MANIFEST_INVALID');
    }
    expectError(await get(server, '/v2/t14/manifests/bad'), 404, 'MANIFEST_UNKNOWN');
  });

  it('T15 one byte more than 4 MiB: 413, and the reading stops there', async () => {
    const size = 200 * MIB;
    const wire = await Wire.connect(server);
    await wire.send(head('PUT', '/v2/t15/manifests/v1', [`Content-Type: ${OCI_MANIFEST}`, `Content-Length: ${size}`]));
    expectError(await wire.answer(), 413, 'MANIFEST_INVALID');
    wire.destroy();
    const chunked = await Wire.connect(server);
    await chunked.send(
      head('PUT', '/v2/t15/manifests/v1', [`Content-Type: ${OCI_MANIFEST}`, 'Transfer-Encoding: chunked']),
    );
    const block = Buffer.concat([Buffer.from('100000\r\n'), Buffer.alloc(MIB, 0x20), Buffer.from('\r\n')]);
    let sent = 0;
    let stopped = false;
    const sender = (async () => {
      while (!stopped && sent < size) {
        await chunked.send(block);
        sent += MIB;
      }
    })();
    const refused = await chunked.answer();
    expectError(refused, 413, 'MANIFEST_INVALID');
    await chunked.ended();
    stopped = true;
    chunked.destroy();
    await sender;
    assert.ok(sent < 64 * MIB, `it went on reading: ${sent}`);
  });

  it('T15 JSON nested 100,000 deep is 400, and the server goes on', async () => {
    await pushBlob(server, 't15', EMPTY_CONFIG);
    const good = imageManifest(EMPTY_CONFIG, []);
    for (const [open_, close] of [
      ['[', ']'],
      ['{"a":', '}'],
    ] as const) {
      const nested = (depth: number): string =>
        good.replace('{', `{"x":${open_.repeat(depth)}1${close.repeat(depth)},`);
      expectStatus(await putManifest(server, 't15', 'shallow', nested(100)), 201);
      for (const depth of [129, 1000, 100_000]) {
        expectError(await putManifest(server, 't15', 'deep', nested(depth)), 400, 'MANIFEST_INVALID');
      }
      expectError(await putManifest(server, 't15', 'deep', nested(100_000).slice(0, 300_000)), 400, 'MANIFEST_INVALID');
    }
    expectError(await get(server, '/v2/t15/manifests/deep'), 404, 'MANIFEST_UNKNOWN');
    expectStatus(await get(server, '/v2/'), 200);
  });

  it('T16 a diamond of 30 levels of indexes is pushed, read and deleted', async () => {
    let previous: Descriptor[] = [];
    const pushed: string[] = [];
    for (let level = 0; level < 30; level += 1) {
      const next: Descriptor[] = [];
      for (const side of ['l', 'r']) {
        const text = imageIndex(previous, { annotations: { level: String(level), side } });
        expectStatus(await putManifest(server, 't16', digestOf(text), text, OCI_INDEX), 201);
        next.push(descriptor(text, OCI_INDEX));
        pushed.push(digestOf(text));
      }
      previous = next;
    }
    const top = imageIndex(previous);
    expectStatus(await putManifest(server, 't16', 'top', top, OCI_INDEX), 201);
    expectStatus(await get(server, '/v2/t16/manifests/top'), 200);
    expectStatus(await ask(server, 'DELETE', `/v2/t16/manifests/${digestOf(top)}`), 202);
    for (const digest of pushed.reverse())
      expectStatus(await ask(server, 'DELETE', `/v2/t16/manifests/${digest}`), 202);
  });

  it('T17 urls of layers are never fetched', async () => {
    let connections = 0;
    const port = await listening(() => {
      connections += 1;
    });
    const urls = [`http://127.0.0.1:${port}/layer`, `https://user:pass@127.0.0.1:${port}/layer`];
    const layers = ['application/vnd.oci.image.layer.nondistributable.v1.tar', OCI_LAYER].map((type) =>
      descriptor(type, type, { urls }),
    );
    await pushBlob(server, 't17', EMPTY_CONFIG);
    const text = imageManifest(EMPTY_CONFIG, [], { layers, annotations: { 'org.opencontainers.image.url': urls[0] } });
    expectStatus(await putManifest(server, 't17', 'v1', text), 201);
    expectStatus(await get(server, '/v2/t17/manifests/v1'), 200);
    for (const layer of layers) expectError(await get(server, `/v2/t17/blobs/${layer.digest}`), 404, 'BLOB_UNKNOWN');
    expectStatus(await ask(server, 'DELETE', `/v2/t17/manifests/${digestOf(text)}`), 202);
    assert.equal(connections, 0);
  });

  it('T18 names that mean something to JavaScript mean nothing here', async () => {
    const keys = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'length'];
    const config = `{${keys.map((key) => `"${key}":{"polluted":"yes"}`).join()}}`;
    await pushBlob(server, 't18', config);
    const image = await pushImage(server, 't18', 'subject');
    const annotations = `{${keys.map((key) => `"${key}":"yes"`).join()}}`;
    const text = imageManifest(config, [], {
      subject: image.descriptor,
      artifactType: 'application/x',
      annotations: 'HERE',
      'x-more': 'MORE',
    })
      .replace('"HERE"', annotations)
      .replace('"MORE"', config);
    expectStatus(await putManifest(server, 't18', 'v1', text), 201);
    assert.equal((await get(server, '/v2/t18/manifests/v1')).text(), text);
    const listed = await get(server, `/v2/t18/referrers/${image.digest}`);
    assert.ok(listed.text().includes('"__proto__"'), 'an annotation was lost');
    for (const key of keys) {
      const headers = { [key]: 'yes', cookie: `${key}=yes` };
      expectStatus(await get(server, `/v2/t18/tags/list?${key}=1&${key}[x]=2`, headers), 200);
      expectError(await get(server, `/v2/t18/manifests/${key}`, headers), 404, 'MANIFEST_UNKNOWN');
      const name = key.toLowerCase();
      const answer = await get(server, `/v2/${name}/tags/list`);
      assert.ok([400, 404].includes(answer.status), `${name}: ${answer.status}`);
      assert.equal('polluted' in (await get(server, '/v2/')).json(), false);
    }
    for (const value of ['null', '5', '"x"', '[]', '{"a":5}', '{"a":null}', '{"a":{"b":"c"}}']) {
      const odd = imageManifest(config, [], { annotations: 'HERE' }).replace('"HERE"', value);
      const answer = await putManifest(server, 't18', 'odd', odd);
      assert.ok([201, 400].includes(answer.status), `${value}: ${answer.status}`);
    }
  });

  it('T18 100,000 keys, integer-like and chosen, are taken or refused, and the server goes on', async () => {
    await pushBlob(server, 't18', EMPTY_CONFIG);
    for (const key of [(i: number) => String(i), (i: number) => `k${i}`, (i: number) => String(i * 65_536)]) {
      const annotations = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [key(i), 'v']));
      const answer = await putManifest(server, 't18', 'many', imageManifest(EMPTY_CONFIG, [], { annotations }));
      assert.ok([201, 400, 413].includes(answer.status), String(answer.status));
    }
    const query = Array.from({ length: 800 }, (_, i) => `k${i}=1`).join('&');
    expectStatus(await get(server, `/v2/t18/tags/list?${query.slice(0, 7000)}`), 200);
    expectStatus(await get(server, '/v2/'), 200);
  });

  it('T19 labels and annotations are text and nothing else', async () => {
    const nasty = [
      '$' + '{process.exit(1)}',
      '{{7*7}}',
      "'; drop table manifest; --",
      '$(touch /tmp/longshore-t19)',
      '`id`',
      '%s%n%d',
      '../../../etc/passwd',
      '\u001b[31mred',
      '\r\nSet-Cookie: a=b',
      '<script>alert(1)</script>',
    ];
    const labels = Object.fromEntries(nasty.map((text, i) => [`${text}${i}`, text]));
    const config = JSON.stringify({ config: { Labels: labels }, architecture: nasty[0], os: nasty[2] });
    await pushBlob(server, 't19', config);
    const image = await pushImage(server, 't19', 'subject');
    const text = imageManifest(config, [], {
      config: descriptor(config, OCI_CONFIG, { annotations: labels }),
      annotations: labels,
      artifactType: nasty[2],
      subject: image.descriptor,
    });
    expectStatus(await putManifest(server, 't19', 'v1', text), 201);
    assert.equal((await get(server, '/v2/t19/manifests/v1')).text(), text);
    const listed = (await get(server, `/v2/t19/referrers/${image.digest}`)).json().manifests;
    assert.deepEqual(listed[0].annotations, labels);
    assert.equal(listed[0].artifactType, nasty[2]);
    assert.doesNotMatch(server.output(), /touch \/tmp\/longshore-t19|drop table/);
  });
});
