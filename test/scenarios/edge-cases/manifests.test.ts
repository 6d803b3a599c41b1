/** Edge cases 43-60: manifests. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import {
  type Answer,
  bytesOf,
  DOCKER_LIST,
  DOCKER_MANIFEST,
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
  OCI_MANIFEST,
  pushBlob,
  pushImage,
  putManifest,
} from '../support/oci.ts';
import { open } from '../support/open.ts';
import { ask, head, rawAsk, Wire } from '../support/wire.ts';

const server = await open();
const MIB = 1024 * 1024;

/** A manifest over the empty config, pushed here, with more fields. */
async function simple(repository: string, more: object = {}): Promise<string> {
  await pushBlob(server, repository, EMPTY_CONFIG);
  return imageManifest(EMPTY_CONFIG, [], more);
}

/** A manifest of exactly `size` bytes. */
async function ofSize(repository: string, size: number): Promise<string> {
  const bare = await simple(repository, { annotations: { filler: '' } });
  return bare.replace('"filler":""', `"filler":"${'x'.repeat(size - bare.length)}"`);
}

function expectHeaders(answer: Answer, type: string, digest: string, size: number): void {
  expectStatus(answer, 200);
  assert.equal(answer.header('content-type'), type);
  assert.equal(answer.header('docker-content-digest'), digest);
  assert.equal(answer.header('content-length'), String(size));
}

describe('manifests', { concurrency: true }, () => {
  it('E43 HEAD has length, type and digest, by tag and by digest', async () => {
    const image = await pushImage(server, 'e43', 'v1');
    for (const reference of ['v1', image.digest]) {
      const probe = await ask(server, 'HEAD', `/v2/e43/manifests/${reference}`);
      expectHeaders(probe, OCI_MANIFEST, image.digest, image.manifest.length);
      assert.equal(probe.body.length, 0);
    }
  });

  it('E44 a manifest comes back byte for byte', async () => {
    const compact = await simple('e44');
    const document = JSON.parse(compact);
    const spellings = [
      `\n \t${compact} \r\n\n`,
      JSON.stringify(
        {
          zzz: { b: 1, a: [null, 1e10, 'ü\u2028'] },
          layers: [],
          config: document.config,
          schemaVersion: 2,
          mediaType: OCI_MANIFEST,
        },
        null,
        7,
      ),
      compact.replace('"schemaVersion":2', '"schemaVersion" :\t2, "custom-field":"\\u0041\\/"'),
    ];
    for (const [i, text] of spellings.entries()) {
      expectStatus(await putManifest(server, 'e44', `v${i}`, text), 201);
      for (const reference of [`v${i}`, digestOf(text)]) {
        const read = await get(server, `/v2/e44/manifests/${reference}`);
        expectHeaders(read, OCI_MANIFEST, digestOf(text), Buffer.byteLength(text));
        assert.equal(read.text(), text);
      }
    }
  });

  it('E45 the type is that of the push; parameters are dropped; either of header and field will do', async () => {
    const text = await simple('e45');
    const bare = await simple('e45', { mediaType: undefined });
    for (const [name, body, type] of [
      ['parameter', text, `${OCI_MANIFEST}; charset=utf-8`],
      ['parameter2', text, `${OCI_MANIFEST};charset="utf-8"`],
      ['header-only', bare, OCI_MANIFEST],
      ['upper', text, OCI_MANIFEST],
    ] as const) {
      expectStatus(await putManifest(server, 'e45', name, body, type), 201);
      assert.equal((await get(server, `/v2/e45/manifests/${name}`)).header('content-type'), OCI_MANIFEST, name);
    }
    const field = await ask(server, 'PUT', '/v2/e45/manifests/field-only', { body: text });
    expectStatus(field, 201);
    assert.equal((await get(server, '/v2/e45/manifests/field-only')).header('content-type'), OCI_MANIFEST);
    expectError(await putManifest(server, 'e45', 'differ', text, OCI_INDEX), 400, 'MANIFEST_INVALID');
    expectError(await putManifest(server, 'e45', 'differ', text, DOCKER_MANIFEST), 400, 'MANIFEST_INVALID');
    expectError(await ask(server, 'PUT', '/v2/e45/manifests/none', { body: bare }), 400, 'MANIFEST_INVALID');
    expectError(await putManifest(server, 'e45', 'json', bare, 'application/json'), 400, 'MANIFEST_INVALID');
    for (const tag of ['differ', 'none', 'json'])
      expectError(await get(server, `/v2/e45/manifests/${tag}`), 404, 'MANIFEST_UNKNOWN');
  });

  it('E46 Accept changes nothing', async () => {
    const image = await pushImage(server, 'e46', 'v1');
    const accepts: (string | string[] | undefined)[] = [
      undefined,
      '*/*',
      OCI_MANIFEST,
      DOCKER_LIST,
      `${DOCKER_MANIFEST}, ${DOCKER_LIST}, */*`,
      'text/html;q=0.9',
      'application/vnd.docker.distribution.manifest.v1+prettyjws',
      [OCI_INDEX, DOCKER_LIST, '*/*'],
      ';;,,',
    ];
    for (const accept of accepts) {
      const read = await ask(
        server,
        'GET',
        '/v2/e46/manifests/v1',
        accept === undefined ? {} : { headers: { accept } },
      );
      expectHeaders(read, OCI_MANIFEST, image.digest, image.manifest.length);
      assert.equal(read.text(), image.manifest);
    }
  });

  it('E47 OCI and Docker, image and list are taken; schema 1 is refused', async () => {
    const image = await pushImage(server, 'e47', 'v1');
    const docker = JSON.stringify({ ...JSON.parse(image.manifest), mediaType: DOCKER_MANIFEST });
    const list = JSON.stringify({ ...JSON.parse(imageIndex([image.descriptor])), mediaType: DOCKER_LIST });
    for (const [tag, body, type] of [
      ['docker', docker, DOCKER_MANIFEST],
      ['list', list, DOCKER_LIST],
      ['index', imageIndex([image.descriptor]), OCI_INDEX],
    ] as const) {
      expectStatus(await putManifest(server, 'e47', tag, body, type), 201);
      expectHeaders(await get(server, `/v2/e47/manifests/${tag}`), type, digestOf(body), body.length);
    }
    const schema1 = JSON.stringify({ schemaVersion: 1, name: 'e47', tag: 'x', fsLayers: [], history: [] });
    for (const type of [
      'application/vnd.docker.distribution.manifest.v1+json',
      'application/vnd.docker.distribution.manifest.v1+prettyjws',
    ]) {
      expectError(await putManifest(server, 'e47', 'schema1', schema1, type), 400, 'MANIFEST_INVALID');
    }
  });

  it('E48 a PUT by a digest that is not the content is 400; a PUT by tag tells the digest', async () => {
    const text = await simple('e48');
    expectError(await putManifest(server, 'e48', digestOf('other'), text), 400, 'DIGEST_INVALID');
    expectError(await get(server, `/v2/e48/manifests/${digestOf(text)}`), 404, 'MANIFEST_UNKNOWN');
    expectError(await putManifest(server, 'e48', `v1?digest=${digestOf('other')}`, text), 400, 'DIGEST_INVALID');
    for (const reference of ['v1', digestOf(text)]) {
      const put = await putManifest(server, 'e48', reference, text);
      expectStatus(put, 201);
      assert.equal(put.header('docker-content-digest'), digestOf(text));
      assert.equal(put.header('location'), `/v2/e48/manifests/${digestOf(text)}`);
    }
  });

  it('E49 missing blobs are 404 naming all of them; what need not be here need not', async () => {
    const layers = [bytesOf(10), bytesOf(11)];
    const config = Buffer.from('{"missing":"config"}');
    const refused = expectError(
      await putManifest(server, 'e49', 'v1', imageManifest(config, layers)),
      404,
      'MANIFEST_BLOB_UNKNOWN',
    );
    for (const blob of [config, ...layers]) assert.ok(JSON.stringify(refused.detail).includes(digestOf(blob)));
    expectError(await get(server, '/v2/e49/manifests/v1'), 404, 'MANIFEST_UNKNOWN');

    await pushBlob(server, 'e49', EMPTY_CONFIG);
    const foreign = [
      'application/vnd.oci.image.layer.nondistributable.v1.tar',
      'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
      'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
    ].map((type) => descriptor(bytesOf(12), type));
    const linked = descriptor(bytesOf(13), 'application/vnd.oci.image.layer.v1.tar', {
      urls: ['https://elsewhere.invalid/l'],
    });
    expectStatus(
      await putManifest(server, 'e49', 'foreign', imageManifest(EMPTY_CONFIG, [], { layers: [...foreign, linked] })),
      201,
    );

    const child = descriptor('{"not":"here"}', OCI_MANIFEST);
    const index = expectError(
      await putManifest(server, 'e49', 'index', imageIndex([child]), OCI_INDEX),
      404,
      'MANIFEST_BLOB_UNKNOWN',
    );
    assert.ok(JSON.stringify(index.detail).includes(child.digest));
  });

  it('E49 a blob of another repository does not count as present', async () => {
    const layer = bytesOf(40);
    await pushBlob(server, 'e49/other', layer);
    await pushBlob(server, 'e49/here', EMPTY_CONFIG);
    expectError(
      await putManifest(server, 'e49/here', 'v1', imageManifest(EMPTY_CONFIG, [layer])),
      404,
      'MANIFEST_BLOB_UNKNOWN',
    );
  });

  it('E50 layers may be empty, null or absent', async () => {
    const base = JSON.parse(await simple('e50'));
    for (const [tag, document] of [
      ['empty', { ...base, layers: [] }],
      ['null', { ...base, layers: null }],
      ['absent', { ...base, layers: undefined }],
    ] as const) {
      const text = JSON.stringify(document);
      expectStatus(await putManifest(server, 'e50', tag, text), 201);
      assert.equal((await get(server, `/v2/e50/manifests/${tag}`)).text(), text);
    }
  });

  it('E51 an index without manifests, and an index of an index', async () => {
    const empty = imageIndex([]);
    expectStatus(await putManifest(server, 'e51', 'empty', empty, OCI_INDEX), 201);
    expectStatus(await putManifest(server, 'e51', 'null', imageIndex(null as never), OCI_INDEX), 201);
    const nested = imageIndex([descriptor(empty, OCI_INDEX)]);
    expectStatus(await putManifest(server, 'e51', 'nested', nested, OCI_INDEX), 201);
    expectHeaders(await get(server, '/v2/e51/manifests/nested'), OCI_INDEX, digestOf(nested), nested.length);
  });

  it('E52 a manifest of 4 MiB is taken, one byte more is 413 with the answer read whole', async () => {
    const fits = await ofSize('e52', 4 * MIB);
    assert.equal(fits.length, 4 * MIB);
    expectStatus(await putManifest(server, 'e52', 'fits', fits), 201);
    assert.equal(digestOf((await get(server, '/v2/e52/manifests/fits')).body), digestOf(fits));
    const over = await ofSize('e52', 4 * MIB + 1);
    expectError(await putManifest(server, 'e52', 'over', over), 413, 'MANIFEST_INVALID');
    const wire = await Wire.connect(server);
    await wire.send(
      head('PUT', '/v2/e52/manifests/over', [`Content-Type: ${OCI_MANIFEST}`, 'Transfer-Encoding: chunked']),
    );
    void wire.send(`${over.length.toString(16)}\r\n`).then(() => wire.send(over));
    expectError(await wire.answer(), 413, 'MANIFEST_INVALID');
    wire.destroy();
    expectError(await get(server, '/v2/e52/manifests/over'), 404, 'MANIFEST_UNKNOWN');
  });

  it('E53 descriptor data and unknown fields are kept', async () => {
    await pushBlob(server, 'e53', EMPTY_CONFIG);
    const text = JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: descriptor(EMPTY_CONFIG, OCI_CONFIG, {
        data: EMPTY_CONFIG.toString('base64'),
        'x-field': [1, { a: null }],
      }),
      layers: [],
      'org.example.custom': { nested: true },
    });
    expectStatus(await putManifest(server, 'e53', 'v1', text), 201);
    assert.equal((await get(server, '/v2/e53/manifests/v1')).text(), text);
  });

  it('E54 the grammar of tags', async () => {
    const text = await simple('e54');
    const hex = digestOf(text).slice(7);
    for (const tag of [
      'a'.repeat(128),
      '_x',
      'A.b-c_',
      `sha256-${hex}.sig`,
      `sha256-${hex}`,
      hex,
      '0',
      'latest',
      'v1.0.0-rc.1_build',
    ]) {
      expectStatus(await putManifest(server, 'e54', tag, text), 201);
      expectStatus(await get(server, `/v2/e54/manifests/${tag}`), 200);
    }
    for (const tag of ['a'.repeat(129), '.x', '-x', 'a+b', 'a%20b', 'a%00b', 'ü', 'a~b'].map((t) =>
      t === 'ü' ? '%C3%BC' : t,
    )) {
      expectError(await putManifest(server, 'e54', tag, text), 400, 'NAME_INVALID');
      expectError(await get(server, `/v2/e54/manifests/${tag}`), 404, 'MANIFEST_UNKNOWN');
      expectError(await ask(server, 'DELETE', `/v2/e54/manifests/${tag}`), 404, 'MANIFEST_UNKNOWN');
    }
  });

  it('E55 several tags by one PUT: an OCI-Tag header each, all or none', async () => {
    const text = await simple('e55');
    const digest = digestOf(text);
    const put = await putManifest(server, 'e55', `${digest}?tag=a&tag=b&tag=c`, text);
    expectStatus(put, 201);
    assert.deepEqual(
      put
        .all('oci-tag')
        .flatMap((value) => value.split(/,\s*/))
        .sort(),
      ['a', 'b', 'c'],
    );
    for (const tag of ['a', 'b', 'c'])
      assert.equal((await get(server, `/v2/e55/manifests/${tag}`)).header('docker-content-digest'), digest);
    const many = (count: number): string => Array.from({ length: count }, (_, i) => `tag=many${i}`).join('&');
    expectStatus(await putManifest(server, 'e55', `${digest}?${many(50)}`, text), 201);
    expectError(await putManifest(server, 'e55/over', `${digest}?${many(51)}`, text), 414, 'UNSUPPORTED');
    expectError(await putManifest(server, 'e55', `${digest}?tag=good&tag=.bad`, text), 400, 'NAME_INVALID');
    expectError(await get(server, '/v2/e55/manifests/good'), 404, 'MANIFEST_UNKNOWN');
    expectError(await putManifest(server, 'e55', 'path?tag=x', text), 400, 'UNSUPPORTED');
  });

  it('E56 DELETE by tag leaves the digest, by digest takes its tags; unknown is 404', async () => {
    const image = await pushImage(server, 'e56', 'one');
    expectStatus(await putManifest(server, 'e56', 'two', image.manifest), 201);
    expectStatus(await putManifest(server, 'e56', 'three', image.manifest), 201);
    expectStatus(await ask(server, 'DELETE', '/v2/e56/manifests/one'), 202);
    expectError(await get(server, '/v2/e56/manifests/one'), 404, 'MANIFEST_UNKNOWN');
    expectStatus(await get(server, `/v2/e56/manifests/${image.digest}`), 200);
    assert.deepEqual((await get(server, '/v2/e56/tags/list')).json().tags, ['three', 'two']);
    expectStatus(await ask(server, 'DELETE', `/v2/e56/manifests/${image.digest}`), 202);
    for (const reference of ['two', 'three', image.digest]) {
      expectError(await get(server, `/v2/e56/manifests/${reference}`), 404, 'MANIFEST_UNKNOWN');
      assert.equal((await ask(server, 'HEAD', `/v2/e56/manifests/${reference}`)).status, 404);
    }
    for (const reference of ['one', 'never', image.digest, digestOf('never')]) {
      expectError(await ask(server, 'DELETE', `/v2/e56/manifests/${reference}`), 404, 'MANIFEST_UNKNOWN');
    }
    assert.deepEqual((await get(server, '/v2/e56/tags/list')).json().tags, []);
    expectStatus(await putManifest(server, 'e56', 'back', image.manifest), 201);
    assert.equal((await get(server, '/v2/e56/manifests/back')).text(), image.manifest);
  });

  it('E56 the child of an index cannot be deleted, nor a blob that a manifest needs: 405 naming why', async () => {
    const image = await pushImage(server, 'e56/child', '');
    const index = imageIndex([image.descriptor]);
    expectStatus(await putManifest(server, 'e56/child', 'index', index, OCI_INDEX), 201);
    const refused = expectError(
      await ask(server, 'DELETE', `/v2/e56/child/manifests/${image.digest}`),
      405,
      'UNSUPPORTED',
    );
    assert.ok(JSON.stringify(refused).includes(digestOf(index)), JSON.stringify(refused));
    const blob = expectError(
      await ask(server, 'DELETE', `/v2/e56/child/blobs/${image.layerDigest}`),
      405,
      'UNSUPPORTED',
    );
    assert.ok(JSON.stringify(blob).includes(image.digest), JSON.stringify(blob));
    expectStatus(await ask(server, 'DELETE', `/v2/e56/child/manifests/${digestOf(index)}`), 202);
    expectStatus(await ask(server, 'DELETE', `/v2/e56/child/manifests/${image.digest}`), 202);
    expectStatus(await ask(server, 'DELETE', `/v2/e56/child/blobs/${image.layerDigest}`), 202);
  });

  it('E57 after a retag the old digest is still there', async () => {
    const old = await pushImage(server, 'e57', 'v1');
    const fresh = await pushImage(server, 'e57', 'v1');
    assert.equal((await get(server, '/v2/e57/manifests/v1')).header('docker-content-digest'), fresh.digest);
    assert.equal((await get(server, `/v2/e57/manifests/${old.digest}`)).text(), old.manifest);
  });

  it('E58 If-None-Match is 304 without a body, until the tag moves', async () => {
    const old = await pushImage(server, 'e58', 'v1');
    const headers = { 'if-none-match': `"${old.digest}"` };
    for (const reference of ['v1', old.digest]) {
      const same = await get(server, `/v2/e58/manifests/${reference}`, headers);
      expectStatus(same, 304);
      assert.equal(same.body.length, 0);
      assert.equal(same.header('docker-content-digest'), old.digest);
    }
    expectStatus(await get(server, '/v2/e58/manifests/v1', { 'if-none-match': `W/"x", ${old.digest}` }), 304);
    await pushImage(server, 'e58', 'v1');
    expectStatus(await get(server, '/v2/e58/manifests/v1', headers), 200);
    assert.equal((await get(server, '/v2/e58/manifests/v1')).header('cache-control'), 'private, no-cache');
  });

  it('E58 If-Match and If-None-Match guard a PUT and a DELETE', async () => {
    const old = await pushImage(server, 'e58/put', 'v1');
    const text = await simple('e58/put', { annotations: { n: '2' } });
    const put = (headers: Record<string, string>): Promise<Answer> =>
      putManifest(server, 'e58/put', 'v1', text, OCI_MANIFEST, headers);
    expectError(await put({ 'if-none-match': '*' }), 412, 'DENIED');
    expectError(await put({ 'if-match': `"${digestOf('other')}"` }), 412, 'DENIED');
    assert.equal((await get(server, '/v2/e58/put/manifests/v1')).header('docker-content-digest'), old.digest);
    expectStatus(await put({ 'if-match': `"${old.digest}"` }), 201);
    expectError(
      await ask(server, 'DELETE', '/v2/e58/put/manifests/v1', { headers: { 'if-match': `"${old.digest}"` } }),
      412,
      'DENIED',
    );
    expectStatus(
      await ask(server, 'DELETE', '/v2/e58/put/manifests/v1', { headers: { 'if-match': `"${digestOf(text)}"` } }),
      202,
    );
  });

  it('E59 a compressed body is 415 and not stored', async () => {
    const text = await simple('e59');
    const headers = { 'content-encoding': 'gzip' };
    expectError(await putManifest(server, 'e59', 'zip', gzipSync(text), OCI_MANIFEST, headers), 415, 'UNSUPPORTED');
    expectError(await putManifest(server, 'e59', 'zip', text, OCI_MANIFEST, headers), 415, 'UNSUPPORTED');
    expectError(await get(server, '/v2/e59/manifests/zip'), 404, 'MANIFEST_UNKNOWN');
  });

  it('E60 the artifact manifest of the release candidates is refused', async () => {
    const type = 'application/vnd.oci.artifact.manifest.v1+json';
    const text = JSON.stringify({ mediaType: type, artifactType: 'application/x', blobs: [] });
    expectError(await putManifest(server, 'e60', 'v1', text, type), 400, 'MANIFEST_INVALID');
  });

  it('E49 an odd request line for a manifest is answered in form', async () => {
    expectError(await rawAsk(server, head('GET', '/v2/e49/manifests/')), 404, 'UNSUPPORTED');
  });
});
