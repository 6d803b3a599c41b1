import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RegistryError } from '../oci/error.ts';
import { parseQuery } from './query.ts';

const plain = (target: string) => ({ ...parseQuery(target) });

test('parameters in any order, decoded once, plus stays plus', () => {
  assert.deepEqual(plain('/v2/'), { tag: [] });
  assert.deepEqual(plain('/v2/?'), { tag: [] });
  assert.deepEqual(plain('/x?from=a%2Fb&mount=sha256%3Aaa'), { from: 'a/b', mount: 'sha256:aa', tag: [] });
  assert.deepEqual(plain('/x?artifactType=application/vnd.x+json'), {
    artifactType: 'application/vnd.x+json',
    tag: [],
  });
  assert.deepEqual(plain('/x?artifactType=a%2Bb'), { artifactType: 'a+b', tag: [] });
  assert.deepEqual(plain('/x?digest=sha256%253Aa'), { digest: 'sha256%3Aa', tag: [] });
  assert.deepEqual(plain('/x?tag=b&tag=a&tag=b'), { tag: ['b', 'a'] });
  assert.deepEqual(plain('/x?n&last='), { n: '', last: '', tag: [] });
  assert.deepEqual(plain('/x?n=1&n=1&unknown=1&unknown=2&__proto__=x&constructor=y'), { n: '1', tag: [] });
});

test('a digest behind a second question mark is not one', () => {
  assert.deepEqual(plain('/x?_state=y?digest=z'), { tag: [] });
});

test('what says two things, or nothing readable, is refused', () => {
  for (const target of [
    '/x?n=1&n=2',
    '/x?digest=a&digest=b',
    '/x?n=%zz',
    '/x?y=%ff',
    '/x?last=%00',
    '/x?last=a%0Ab',
    '/x?%7f=1',
    '/x?tag=%',
  ]) {
    assert.throws(
      () => parseQuery(target),
      (error) => error instanceof RegistryError && error.status === 400,
      target,
    );
  }
});

test('any query is read or refused', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        for (const value of Object.values(parseQuery(`/x?${text}`))) {
          for (const one of [value].flat()) assert.ok(![...one].some((c) => c < ' ' || c === '\x7f'));
        }
      } catch (error) {
        assert.ok(error instanceof RegistryError && error.status === 400);
      }
    }),
  );
});
