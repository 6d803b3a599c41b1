/** Globs mean what their page says, and cost what it says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { matchesGlob, selects } from './glob.ts';

/** The same by a regular expression, for texts and patterns that are known to be harmless. */
function model(pattern: string, text: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*\*|\*|\?/g, (mark) => (mark === '**' ? '[^]*' : mark === '*' ? '[^/]*' : '[^/]'));
  return new RegExp(`^${source}$`).test(text);
}

test('a glob matches what its regular expression does', () => {
  const piece = fc.constantFrom('a', 'b', '/', '*', '**', '?', '.');
  fc.assert(
    fc.property(
      fc.array(piece, { maxLength: 8 }),
      fc.array(fc.constantFrom('a', 'b', '/', '.'), { maxLength: 10 }),
      (pattern, text) => {
        // Three stars in a row are read from the left: one deep star, one shallow.
        assert.equal(matchesGlob(pattern.join(''), text.join('')), model(pattern.join(''), text.join('')));
      },
    ),
    { numRuns: 2000 },
  );
});

test('exceptions win over what is included', () => {
  assert.equal(selects(['*'], ['latest', '*-dev'], 'v1'), true);
  assert.equal(selects(['*'], ['latest', '*-dev'], 'x-dev'), false);
  assert.equal(selects([], [], 'v1'), false);
});

test('hostile patterns and texts are bounded', () => {
  assert.equal(matchesGlob(`${'*a'.repeat(500)}b`, 'a'.repeat(1000)), false);
  assert.equal(matchesGlob(`${'**a'.repeat(300)}b`, 'a'.repeat(1000)), false);
  assert.equal(matchesGlob('*'.repeat(65_536), 'a'.repeat(65_536)), false);
});
