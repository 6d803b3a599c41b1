import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RegistryError } from '../oci/error.ts';
import { isRepositoryName } from '../oci/repository-name.ts';
import { isProtocolTarget, parseRoute } from './route.ts';

const HEX = 'a'.repeat(64);
const D = `sha256:${HEX}`;

/** The code that parsing throws. */
function codeOf(target: string): string {
  try {
    const route = parseRoute(target);
    return route === undefined ? 'none' : route.kind;
  } catch (error) {
    assert.ok(error instanceof RegistryError, String(error));
    assert.equal(error.status, 400);
    return error.code;
  }
}

test('every route is found', () => {
  assert.equal(codeOf('/v2'), 'base');
  assert.equal(codeOf('/v2/'), 'base');
  assert.equal(codeOf('/v2/?a=b'), 'base');
  assert.equal(codeOf('/v2?a'), 'base');
  assert.equal(codeOf('/v2/_catalog?n=5'), 'catalog');
  assert.deepEqual(parseRoute('/v2/a/b/manifests/latest'), {
    kind: 'manifest',
    repository: 'a/b',
    reference: { tag: 'latest' },
  });
  assert.deepEqual(parseRoute(`/v2/a/manifests/${D}`), { kind: 'manifest', repository: 'a', reference: { digest: D } });
  assert.deepEqual(parseRoute(`/v2/a/blobs/${D}`), { kind: 'blob', repository: 'a', digest: D });
  assert.deepEqual(parseRoute('/v2/a/blobs/uploads/'), { kind: 'uploads', repository: 'a' });
  assert.deepEqual(parseRoute('/v2/a/blobs/uploads'), { kind: 'uploads', repository: 'a' });
  assert.deepEqual(parseRoute('/v2/a/blobs/uploads/x-1_2.~='), { kind: 'upload', repository: 'a', id: 'x-1_2.~=' });
  assert.deepEqual(parseRoute('/v2/a/tags/list?n=1'), { kind: 'tags', repository: 'a' });
  assert.deepEqual(parseRoute(`/v2/a/referrers/${D}`), { kind: 'referrers', repository: 'a', digest: D });
});

test('the last part is decoded once, and only once', () => {
  assert.deepEqual(parseRoute(`/v2/a/blobs/sha256%3A${HEX}`), { kind: 'blob', repository: 'a', digest: D });
  assert.deepEqual(parseRoute(`/v2/a/manifests/sha256%3a${HEX}`), {
    kind: 'manifest',
    repository: 'a',
    reference: { digest: D },
  });
  assert.equal(codeOf(`/v2/a/blobs/sha256%253A${HEX}`), 'DIGEST_INVALID');
  assert.deepEqual(parseRoute('/v2/a/manifests/%6catest'), {
    kind: 'manifest',
    repository: 'a',
    reference: { tag: 'latest' },
  });
  assert.equal(codeOf('/v2/a/blobs/uplo%61ds'), 'DIGEST_INVALID');
});

test('repositories whose names look like routes', () => {
  for (const name of [
    'tags',
    'blobs',
    'uploads',
    'manifests',
    'v2',
    'a/blobs',
    'a/blobs/uploads',
    'a/manifests/x',
    'a/tags/list',
    'referrers/x',
    'blobs/uploads',
    'tags/list',
  ]) {
    assert.deepEqual(parseRoute(`/v2/${name}/manifests/x`), {
      kind: 'manifest',
      repository: name,
      reference: { tag: 'x' },
    });
    assert.deepEqual(parseRoute(`/v2/${name}/blobs/${D}`), { kind: 'blob', repository: name, digest: D });
    assert.deepEqual(parseRoute(`/v2/${name}/blobs/uploads/`), { kind: 'uploads', repository: name });
    assert.deepEqual(parseRoute(`/v2/${name}/blobs/uploads/list`), { kind: 'upload', repository: name, id: 'list' });
    assert.deepEqual(parseRoute(`/v2/${name}/tags/list`), { kind: 'tags', repository: name });
    assert.deepEqual(parseRoute(`/v2/${name}/referrers/${D}`), { kind: 'referrers', repository: name, digest: D });
  }
});

test('what is no route is none, and what stands for a name must be one', () => {
  for (const target of [
    '/v2/x',
    '/v2/_catalog/',
    '/v2/a/manifests/',
    '/v2/a/manifests',
    '/v2/manifests/x',
    `/v2/blobs/${D}`,
    '/v2/blobs/uploads/',
    '/v2/a/tags/',
    '/v2/a/tags/list/',
    '/v2/a/tags/lists',
    '/v2/a/blobs/',
    '/v2/a/referrers/',
    '/v2/a/uploads/x',
    '/v2/a/%6danifests/x',
    '/v2/a/blobs/uploads/x/',
    '/v2/tags/list',
    '/v2/_catalogue',
  ]) {
    assert.equal(codeOf(target), 'none', target);
  }
  for (const name of [
    'A',
    'a//b',
    '',
    '..',
    'a/../b',
    '.',
    'a%2Fb',
    'a%00',
    'a%zz',
    'a\\b',
    'a..b',
    '-a',
    'a-',
    'a/',
    'a'.repeat(256),
    'ß',
    'a b',
    'a___b',
    '..;',
    '%2e%2e',
  ]) {
    assert.equal(codeOf(`/v2/${name}/manifests/x`), 'NAME_INVALID', name);
    assert.equal(codeOf(`/v2/${name}/blobs/${D}`), 'NAME_INVALID', name);
    assert.equal(codeOf(`/v2/${name}/tags/list`), 'NAME_INVALID', name);
    assert.equal(codeOf(`/v2/${name}/blobs/uploads/`), 'NAME_INVALID', name);
  }
  assert.equal(codeOf(`/v2/${'a'.repeat(255)}/manifests/x`), 'manifest');
});

test('a malformed digest is never taken for a tag', () => {
  for (const text of [
    'sha256:',
    'sha256:xyz',
    `sha256:${HEX}0`,
    `sha256:${HEX.toUpperCase()}`,
    `md5:${'a'.repeat(32)}`,
    'a:b',
    `sha512:${HEX}`,
    'sha256%3Ax',
    ':',
  ]) {
    assert.equal(codeOf(`/v2/a/manifests/${text}`), 'DIGEST_INVALID', text);
    assert.equal(codeOf(`/v2/a/blobs/${text}`), 'DIGEST_INVALID', text);
    assert.equal(codeOf(`/v2/a/referrers/${text}`), 'DIGEST_INVALID', text);
  }
  assert.equal(codeOf('/v2/a/blobs/latest'), 'DIGEST_INVALID');
  assert.equal(codeOf('/v2/a/blobs/%zz'), 'DIGEST_INVALID');
});

test('a malformed tag or id is a route with nothing in its place', () => {
  for (const text of ['.x', '-x', 'a'.repeat(129), '%zz', 'a%00', 'a%2Fb', '%ff', 'a+b', '%E2%82%AC']) {
    assert.deepEqual(parseRoute(`/v2/a/manifests/${text}`), {
      kind: 'manifest',
      repository: 'a',
      reference: undefined,
    });
  }
  for (const text of ['%00', 'a'.repeat(257), '%2F', '%zz', '..%2f..', 'a+b']) {
    assert.deepEqual(parseRoute(`/v2/a/blobs/uploads/${text}`), { kind: 'upload', repository: 'a', id: undefined });
  }
});

test('only the plain spelling of /v2/ is the registry', () => {
  for (const target of ['/v2', '/v2/', '/v2?x', '/v2/a']) assert.ok(isProtocolTarget(target), target);
  for (const target of ['/', '/V2/', '/%76%32/', '/v22/', '/v2x', '/../v2/', '//v2/', 'v2/', '']) {
    assert.ok(!isProtocolTarget(target), target);
  }
});

test('whatever the path, the parser gives a checked name or refuses', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      'a',
      'tags',
      'list',
      'blobs',
      'uploads',
      'manifests',
      'referrers',
      'v2',
      '_catalog',
      '..',
      '.',
      '',
      '%2F',
      '%00',
      '%zz',
      D,
      'A',
      'a__b',
      'x;y',
      '?',
      'ß',
      '%25',
    ),
    fc.string({ maxLength: 12 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
      const target = `/v2/${pieces.join('/')}`;
      let route: ReturnType<typeof parseRoute>;
      try {
        route = parseRoute(target);
      } catch (error) {
        assert.ok(error instanceof RegistryError);
        assert.ok(error.code === 'NAME_INVALID' || error.code === 'DIGEST_INVALID');
        return;
      }
      if (route?.repository !== undefined) {
        assert.ok(isRepositoryName(route.repository));
        assert.ok(target.startsWith(`/v2/${route.repository}/`), 'the name is as it stood in the target');
      }
    }),
    { numRuns: 2000 },
  );
});
