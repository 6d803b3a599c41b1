/** The tag cache is never older than its repository, and never larger than it may be. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../oci/digest.ts';
import { OCI_MANIFEST } from '../oci/media-types.ts';
import type { RepositoryName } from '../oci/names.ts';
import type { ManifestContent } from '../registry/registry.ts';
import { TagCache } from './tag-cache.ts';

const a = 'a' as RepositoryName;
const b = 'b' as RepositoryName;

function content(text: string, size = 100): ManifestContent {
  const bytes = Buffer.alloc(size, text);
  return { descriptor: { mediaType: OCI_MANIFEST, digest: digestOf(bytes), size }, bytes };
}

test('one content for all tags of a manifest, and for its digest', () => {
  const cache = new TagCache();
  const first = cache.set(a, 'v1', content('x'), undefined);
  assert.equal(cache.set(a, 'v2', content('x'), undefined), first);
  assert.equal(cache.get(a, first.descriptor.digest, undefined), first);
  assert.equal(cache.get(b, 'v1', undefined), undefined);
});

test('a dropped repository is forgotten, the others stay', () => {
  const cache = new TagCache();
  cache.set(a, 'v1', content('x'), undefined);
  cache.set(b, 'v1', content('y'), undefined);
  cache.drop(a);
  assert.equal(cache.get(a, 'v1', undefined), undefined);
  assert.notEqual(cache.get(b, 'v1', undefined), undefined);
});

test('an entry of another data version counts as absent, and NaN makes none count', () => {
  const cache = new TagCache();
  cache.set(a, 'v1', content('x'), 7);
  assert.notEqual(cache.get(a, 'v1', 7), undefined);
  assert.equal(cache.get(a, 'v1', 8), undefined);
  cache.set(a, 'v2', content('y'), Number.NaN);
  assert.equal(cache.get(a, 'v2', Number.NaN), undefined);
});

test('what it holds is bounded by bytes: the oldest go', () => {
  const cache = new TagCache();
  for (let i = 0; i < 10; i++) cache.set(a, `v${i}`, content(String(i), 4 * 1024 * 1024), undefined);
  assert.equal(cache.get(a, 'v0', undefined), undefined);
  assert.notEqual(cache.get(a, 'v9', undefined), undefined);
});
