/** Edge cases 16-27 and 29-33: blobs going up, their digests, mounts and framing. 27 and 28 are in auth.test.ts too. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  bytesOf,
  digestOf,
  expectError,
  expectStatus,
  get,
  imageManifest,
  OCI_MANIFEST,
  pushBlob,
  pushImage,
  putManifest,
  startUpload,
  withQuery,
} from '../support/oci.ts';
import { open } from '../support/open.ts';
import { type Answer, ask, eventually, head, pause, rawAsk, Wire } from '../support/wire.ts';

const server = await open();

function chunk(location: string, range: string, body: Uint8Array | string, method = 'PATCH'): Promise<Answer> {
  return ask(server, method, location, { headers: { 'content-range': range }, body });
}

function finish(location: string, bytes: Uint8Array | string, body?: Uint8Array | string): Promise<Answer> {
  return ask(server, 'PUT', withQuery(location, `digest=${digestOf(bytes)}`), body === undefined ? {} : { body });
}

async function expectBlob(repository: string, bytes: Uint8Array): Promise<void> {
  const answer = await get(server, `/v2/${repository}/blobs/${digestOf(bytes)}`);
  expectStatus(answer, 200);
  assert.ok(answer.body.equals(bytes), 'the bytes that came back differ');
}

async function expectNoBlob(repository: string, bytes: Uint8Array | string): Promise<void> {
  expectError(await get(server, `/v2/${repository}/blobs/${digestOf(bytes)}`), 404, 'BLOB_UNKNOWN');
}

describe('uploads: digests, mounts, framing', { concurrency: true }, () => {
  it('E16 the digest in the query may be percent-encoded or raw', async () => {
    const digest = digestOf('encoded');
    for (const spelling of [
      digest,
      digest.replace(':', '%3A'),
      digest.replace(':', '%3a'),
      digest.replace('s', '%73'),
    ]) {
      const location = await startUpload(server, 'e16');
      expectStatus(await ask(server, 'PUT', withQuery(location, `digest=${spelling}`), { body: 'encoded' }), 201);
    }
  });

  it('E17 the last part of the path is decoded once and only once', async () => {
    const image = await pushImage(server, 'e17', 'latest');
    for (const colon of ['%3A', '%3a']) {
      expectStatus(await get(server, `/v2/e17/blobs/${image.layerDigest.replace(':', colon)}`), 200);
      expectStatus(await get(server, `/v2/e17/manifests/${image.digest.replace(':', colon)}`), 200);
      expectStatus(await get(server, `/v2/e17/referrers/${image.digest.replace(':', colon)}`), 200);
    }
    expectError(await get(server, `/v2/e17/blobs/${image.layerDigest.replace(':', '%253A')}`), 400, 'DIGEST_INVALID');
    expectStatus(await get(server, '/v2/e17/manifests/late%73t'), 200);
    const twice = await get(server, `/v2/e17/manifests/${image.digest.replace(':', '%253A')}`);
    assert.ok([400, 404].includes(twice.status), String(twice.status));
    expectError(await get(server, `/v2/e17%2Fsub/blobs/${image.layerDigest}`), 400, 'NAME_INVALID');
    expectError(await ask(server, 'POST', '/v2/e17%2fother/blobs/uploads/'), 400, 'NAME_INVALID');
  });

  it('E18 a wrong digest at the close is 400, nothing is readable and the upload is over', async () => {
    const location = await startUpload(server, 'e18');
    expectStatus(await ask(server, 'PATCH', location, { body: 'right' }), 202);
    expectError(await finish(location, 'wrong'), 400, 'DIGEST_INVALID');
    await expectNoBlob('e18', 'wrong');
    await expectNoBlob('e18', 'right');
    expectError(await get(server, location), 404, 'BLOB_UPLOAD_UNKNOWN');
  });

  const hex = digestOf('malformed').slice(7);
  for (const digest of [
    '',
    'sha256:',
    'sha256:xyz',
    `sha256:${hex.toUpperCase()}`,
    `SHA256:${hex}`,
    `sha256:${hex}0`,
    `sha256:${hex.slice(1)}`,
    `sha512:${hex}`,
    `md5:${hex.slice(0, 32)}`,
    `unknown:${hex}`,
    hex,
    `sha256:${hex}%0a`,
    'sha256:../../../../etc/passwd',
  ]) {
    it(`E18 the malformed digest "${digest}" is 400 and leaves the upload as it was`, async () => {
      const location = await startUpload(server, 'e18-bad');
      expectStatus(await ask(server, 'PATCH', location, { body: 'malformed' }), 202);
      const refused = await ask(server, 'PUT', withQuery(location, `digest=${digest}`));
      assert.equal(refused.status, 400, refused.text());
      // A control character in the query is refused before it is looked at as a digest.
      if (!digest.includes('%')) expectError(refused, 400, 'DIGEST_INVALID');
      expectError(await ask(server, 'PUT', location), 400, 'DIGEST_INVALID');
      expectStatus(await finish(location, 'malformed'), 201);
    });
  }

  it('E19 sha512 for blobs: the algorithm is known at the PUT, echoed, and can be mounted', async () => {
    const bytes = bytesOf(70_000);
    const digest = digestOf(bytes, 'sha512');
    for (const query of ['', '?digest-algorithm=sha512']) {
      const repository = `e19/a${query.length}`;
      const location = await startUpload(server, repository, {}, query);
      expectStatus(await ask(server, 'PATCH', location, { body: bytes }), 202);
      const closed = await ask(server, 'PUT', withQuery(location, `digest=${digest}`));
      expectStatus(closed, 201);
      assert.equal(closed.header('docker-content-digest'), digest);
      assert.equal(closed.header('location'), `/v2/${repository}/blobs/${digest}`);
      const probe = await ask(server, 'HEAD', `/v2/${repository}/blobs/${digest}`);
      expectStatus(probe, 200);
      assert.equal(probe.header('docker-content-digest'), digest);
      assert.equal(probe.header('content-length'), '70000');
    }
    const mounted = await ask(server, 'POST', `/v2/e19/b/blobs/uploads/?mount=${digest}&from=e19/a0`);
    expectStatus(mounted, 201);
    assert.equal(mounted.header('docker-content-digest'), digest);
    assert.ok((await get(server, `/v2/e19/b/blobs/${digest}`)).body.equals(bytes));
    const single = await ask(server, 'POST', `/v2/e19/c/blobs/uploads/?digest=${digest}`, { body: bytes });
    expectStatus(single, 201);
    expectError(await ask(server, 'POST', '/v2/e19/c/blobs/uploads/?digest-algorithm=md5'), 400, 'DIGEST_INVALID');
    expectError(
      await ask(server, 'POST', `/v2/e19/c/blobs/uploads/?digest-algorithm=sha256&digest=${digest}`),
      400,
      'DIGEST_INVALID',
    );
  });

  it('E19 sha512 for manifests: by digest and by tag', async () => {
    const image = await pushImage(server, 'e19/m', 'v1');
    const digest = digestOf(image.manifest, 'sha512');
    const put = await putManifest(server, 'e19/m', digest, image.manifest);
    expectStatus(put, 201);
    assert.equal(put.header('docker-content-digest'), digest);
    const read = await get(server, `/v2/e19/m/manifests/${digest}`);
    expectStatus(read, 200);
    assert.equal(read.header('docker-content-digest'), digest);
    assert.equal(read.text(), image.manifest);
    const tagged = await putManifest(server, 'e19/m', `v512?digest=${digest}`, image.manifest);
    expectStatus(tagged, 201);
    assert.equal(tagged.header('docker-content-digest'), digest);
    assert.equal((await ask(server, 'HEAD', '/v2/e19/m/manifests/v512')).header('docker-content-digest'), digest);
    assert.equal((await ask(server, 'HEAD', '/v2/e19/m/manifests/v1')).header('docker-content-digest'), image.digest);
  });

  it('E20 a blob of no bytes', async () => {
    const location = await startUpload(server, 'e20');
    expectStatus(
      await ask(server, 'PUT', withQuery(location, `digest=${digestOf('')}`), { headers: { 'content-length': '0' } }),
      201,
    );
    const probe = await ask(server, 'HEAD', `/v2/e20/blobs/${digestOf('')}`);
    expectStatus(probe, 200);
    assert.equal(probe.header('content-length'), '0');
    const read = await get(server, `/v2/e20/blobs/${digestOf('')}`);
    expectStatus(read, 200);
    assert.equal(read.body.length, 0);
  });

  it('E21 a blob that exists is 201 again, and two pushes of the same at once are both 201', async () => {
    for (const size of [500, 200_000]) {
      const bytes = bytesOf(size);
      await pushBlob(server, 'e21', bytes);
      await pushBlob(server, 'e21', bytes);
      const fresh = bytesOf(size);
      await Promise.all(Array.from({ length: 8 }, (_, i) => pushBlob(server, `e21/${i % 3}`, fresh)));
      await expectBlob('e21/0', fresh);
      await expectBlob('e21/2', fresh);
    }
  });

  it('E22 a mount is 201 with a Location in the new repository and no body', async () => {
    const bytes = bytesOf(100);
    const digest = await pushBlob(server, 'e22/a', bytes);
    const mounted = await ask(server, 'POST', `/v2/e22/b/blobs/uploads/?mount=${digest}&from=e22/a`);
    expectStatus(mounted, 201);
    assert.equal(mounted.header('location'), `/v2/e22/b/blobs/${digest}`);
    assert.equal(mounted.body.length, 0);
    await expectBlob('e22/b', bytes);
    expectStatus(await ask(server, 'POST', `/v2/e22/b/blobs/uploads/?mount=${digest}&from=e22/a`), 201);
  });

  it('E23 a mount that cannot be is 202 with an upload to go on with', async () => {
    await pushBlob(server, 'e23/a', 'something');
    const unknown = digestOf('nobody has this');
    for (const query of [
      `mount=${unknown}&from=e23/a`,
      `mount=${unknown}&from=e23/nowhere`,
      `mount=${unknown}&from=Not%20A%20Name`,
      `mount=${unknown}&from=`,
      `mount=${digestOf('something')}&from=e23/nowhere`,
    ]) {
      const opened = await ask(server, 'POST', `/v2/e23/b/blobs/uploads/?${query}`);
      expectStatus(opened, 202);
      expectStatus(await finish(opened.header('location'), 'own bytes', 'own bytes'), 201);
    }
    expectError(
      await ask(server, 'POST', '/v2/e23/b/blobs/uploads/?mount=sha256:xyz&from=e23/a'),
      400,
      'DIGEST_INVALID',
    );
  });

  it('E24 a mount without from finds the blob where the caller may pull', async () => {
    const bytes = bytesOf(123);
    const digest = await pushBlob(server, 'e24/a', bytes);
    const mounted = await ask(server, 'POST', `/v2/e24/b/blobs/uploads/?mount=${digest}`);
    expectStatus(mounted, 201);
    await expectBlob('e24/b', bytes);
    expectStatus(await ask(server, 'POST', `/v2/e24/b/blobs/uploads/?mount=${digestOf('no one, e24')}`), 202);
  });

  it('E25 from before mount, mount percent-encoded', async () => {
    const digest = await pushBlob(server, 'e25/a', 'ordered');
    const encoded = encodeURIComponent(digest);
    for (const query of [
      `from=e25%2Fa&mount=${encoded}`,
      `from=e25/a&mount=${digest}`,
      `mount=${encoded}&x=y&from=e25%2Fa`,
    ]) {
      expectStatus(await ask(server, 'POST', `/v2/e25/b${query.length}/blobs/uploads/?${query}`), 201);
    }
  });

  it('E26 deleting a mounted blob is seen there at once and nowhere else', async () => {
    for (const size of [100, 100_000]) {
      const bytes = bytesOf(size);
      const digest = await pushBlob(server, 'e26/a', bytes);
      expectStatus(await ask(server, 'POST', `/v2/e26/b/blobs/uploads/?mount=${digest}&from=e26/a`), 201);
      await expectBlob('e26/b', bytes);
      expectStatus(await ask(server, 'DELETE', `/v2/e26/b/blobs/${digest}`), 202);
      assert.equal((await ask(server, 'HEAD', `/v2/e26/b/blobs/${digest}`)).status, 404);
      await expectNoBlob('e26/b', bytes);
      await expectBlob('e26/a', bytes);
      expectError(await ask(server, 'DELETE', `/v2/e26/b/blobs/${digest}`), 404, 'BLOB_UNKNOWN');
    }
  });

  it('E27 Expect: 100-continue is answered before the body; a final answer needs no body', async () => {
    const bytes = bytesOf(1000);
    const location = await startUpload(server, 'e27');
    const wire = await Wire.connect(server);
    const target = withQuery(location, `digest=${digestOf(bytes)}`);
    await wire.send(head('PUT', target, ['Content-Length: 1000', 'Expect: 100-continue']));
    expectStatus(await wire.answer(), 100);
    await wire.send(bytes);
    expectStatus(await wire.answer(), 201);
    await wire.send(head('PUT', `${location}?digest=sha256:bad`, ['Content-Length: 1000000', 'Expect: 100-continue']));
    const refused = await wire.answer();
    expectError(refused, 400, 'DIGEST_INVALID');
    assert.match(refused.header('connection'), /close/i);
    wire.destroy();
    const odd = await rawAsk(server, head('POST', '/v2/e27/blobs/uploads/', ['Content-Length: 0', 'Expect: 200-ok']));
    expectError(odd, 417, 'UNSUPPORTED');
  });

  for (const framing of ['Content-Length', 'chunked']) {
    it(`E29 a connection cut in a PATCH (${framing}): the offset is told truly and the push resumes`, async () => {
      const bytes = bytesOf(100_000);
      const location = await startUpload(server, 'e29');
      let size = 0;
      // A server that did not come to read before the cut has kept nothing: then it is cut once more, later.
      for (let tries = 1; size === 0; tries += 1) {
        assert.ok(tries <= 20, 'nothing is ever kept of what came before a cut');
        const wire = await Wire.connect(server);
        if (framing === 'chunked') {
          await wire.send(head('PATCH', location, ['Transfer-Encoding: chunked']));
          await wire.send('ea60\r\n');
        } else await wire.send(head('PATCH', location, ['Content-Length: 100000']));
        await wire.send(bytes.subarray(0, 60_000));
        await pause(200 * tries);
        wire.destroy();
        for (let looks = 0; looks < 40 && size === 0; looks += 1) {
          await pause(50);
          const status = await get(server, location);
          expectStatus(status, 204);
          const range = status.header('range');
          if (range !== '0-0') size = Number(range.slice(2)) + 1;
        }
      }
      assert.ok(size > 0 && size <= 60_000, String(size));
      const rest = await eventually('the rest is taken', async () => {
        const status = await get(server, location);
        const from = Number(status.header('range').slice(2)) + 1;
        const answer = await chunk(location, `${from}-99999`, bytes.subarray(from));
        return answer.status === 202 ? answer : undefined;
      });
      assert.equal(rest.header('range'), '0-99999');
      expectStatus(await finish(location, bytes), 201);
      await expectBlob('e29', bytes);
    });
  }

  it('E30 POST without the slash at the end', async () => {
    const opened = await ask(server, 'POST', '/v2/e30/blobs/uploads');
    expectStatus(opened, 202);
    expectStatus(await finish(opened.header('location'), 'noslash', 'noslash'), 201);
  });

  it('E31 POST with Content-Length 0 or with no length at all', async () => {
    for (const headers of [['Content-Length: 0'], []]) {
      expectStatus(await rawAsk(server, head('POST', '/v2/e31/blobs/uploads/', headers)), 202);
    }
  });

  it('E32 the Content-Type of a blob is never looked at', async () => {
    for (const type of [
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/json',
      ';;;',
      'a',
      '',
      undefined,
    ]) {
      const headers = type === undefined ? {} : { 'content-type': type };
      const body = `a=b&c={"x":${JSON.stringify(type ?? 'none')}}`;
      const location = await startUpload(server, 'e32', headers as Record<string, string>);
      expectStatus(await ask(server, 'PATCH', location, { headers: headers as Record<string, string>, body }), 202);
      const closed = await ask(server, 'PUT', withQuery(location, `digest=${digestOf(body + body)}`), {
        headers: headers as Record<string, string>,
        body,
      });
      expectStatus(closed, 201);
    }
  });

  it('E33 a body that pauses between its pieces is waited for', async () => {
    const bytes = bytesOf(6 * 4096);
    const location = await startUpload(server, 'e33');
    const wire = await Wire.connect(server);
    await wire.send(head('PATCH', location, [`Content-Length: ${bytes.length}`]));
    for (let i = 0; i < 6; i += 1) {
      await wire.send(bytes.subarray(i * 4096, (i + 1) * 4096));
      await pause(400);
    }
    expectStatus(await wire.answer(), 202);
    wire.destroy();
    expectStatus(await finish(location, bytes), 201);
  });

  it('E19 a manifest may name its blobs by sha512', async () => {
    const layer = bytesOf(64);
    const config = '{"architecture":"amd64","os":"linux"}';
    for (const blob of [layer, config]) {
      const digest = digestOf(blob, 'sha512');
      const location = await startUpload(server, 'e19/n');
      expectStatus(await ask(server, 'PUT', withQuery(location, `digest=${digest}`), { body: blob }), 201);
    }
    const document = JSON.parse(imageManifest(config, [layer]));
    document.config.digest = digestOf(config, 'sha512');
    document.layers[0].digest = digestOf(layer, 'sha512');
    expectStatus(await putManifest(server, 'e19/n', 'v1', JSON.stringify(document), OCI_MANIFEST), 201);
  });
});
