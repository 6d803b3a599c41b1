import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAuthorization } from './basic.ts';
import { formatScope, parseScope, parseScopes } from './scope.ts';

test('the grammar: first and last colon, a port in the name, a class that is left out', () => {
  const cases: readonly [string, string | undefined][] = [
    ['repository:a/b:pull,push', 'repository:a/b:pull,push'],
    ['repository:host:5000/a:pull', 'repository:host:5000/a:pull'],
    ['repository(plugin):a/b:pull', 'repository:a/b:pull'],
    ['registry:catalog:*', 'registry:catalog:*'],
    ['repository:a:', 'repository:a:'],
    ['repository:a:pull,pull,,push', 'repository:a:pull,push'],
    ['repository:a:b:c:pull', undefined],
    ['repository::pull', undefined],
    ['repository:a', undefined],
    ['Repository:a:pull', undefined],
    ['repository(:a:pull', undefined],
    ['', undefined],
    [':::', undefined],
  ];
  for (const [text, expected] of cases) {
    const scope = parseScope(text);
    assert.equal(scope === undefined ? undefined : formatScope(scope), expected, text);
  }
});

test('scopes may be repeated and joined by blanks, and are merged', () => {
  const scopes = parseScopes(['repository:a:pull repository:b:pull', 'repository:a:push', 'nonsense', '']);
  assert.deepEqual(scopes.map(formatScope), ['repository:a:pull,push', 'repository:b:pull']);
});

test('too many and too long scopes are refused with 400', () => {
  const at = (n: number): string[] => Array.from({ length: n }, (_, i) => `repository:a${i}:pull`);
  assert.equal(parseScopes(at(100)).length, 100);
  assert.throws(() => parseScopes(at(101)), { status: 400 });
  assert.throws(() => parseScopes([at(101).join(' ')]), { status: 400 });
  assert.throws(() => parseScopes([`repository:${'a'.repeat(1024)}:pull`]), { status: 400 });
});

test('whatever is asked, parsing ends in scopes that parse to themselves', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(':', ',', '(', ')', 'a', 'pull', '*', '/') }), (text) => {
      const scope = parseScope(text);
      if (scope !== undefined && scope.name.length < 900) assert.deepEqual(parseScope(formatScope(scope)), scope);
    }),
  );
});

test('the Authorization header: Basic with colons and UTF-8, empty ones, and what is neither', () => {
  const of = (text: string | Buffer): string => `Basic ${Buffer.from(text).toString('base64')}`;
  assert.deepEqual(parseAuthorization(of('a:b:c')), { scheme: 'basic', name: 'a', password: 'b:c' });
  assert.deepEqual(parseAuthorization(of('ü:пароль🔑')), { scheme: 'basic', name: 'ü', password: 'пароль🔑' });
  assert.deepEqual(parseAuthorization('bAsIc  YTpi'), { scheme: 'basic', name: 'a', password: 'b' });
  assert.deepEqual(parseAuthorization('Basic Og=='), { scheme: 'none' });
  assert.deepEqual(parseAuthorization('BEARER abc.def'), { scheme: 'bearer', token: 'abc.def' });
  const bad = [
    '',
    'Basic',
    'Basic ',
    'Basic !!!',
    of('nocolon'),
    of(Buffer.from([0xff, 0x3a, 0x61])),
    of('a:b\0'),
    of('a\n:b'),
    'Digest x=y',
    'Bearer a b',
    `Bearer ${'a'.repeat(17_000)}`,
    'Negotiate YII=',
  ];
  for (const header of bad) assert.deepEqual(parseAuthorization(header), { scheme: 'bad' }, header.slice(0, 40));
});
