import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { contentRange, parseContentRange, parseDigits, parseRange, uploadRange } from './range.ts';

test('a Range header is read as the routes say', () => {
  assert.deepEqual(parseRange(undefined), { kind: 'whole' });
  assert.deepEqual(parseRange('bytes=0-0'), { kind: 'range', range: { start: 0, end: 1 } });
  assert.deepEqual(parseRange('Bytes=5-9'), { kind: 'range', range: { start: 5, end: 10 } });
  assert.deepEqual(parseRange('bytes=5-'), { kind: 'range', range: { start: 5, end: Number.MAX_SAFE_INTEGER } });
  assert.deepEqual(parseRange('bytes=-7'), { kind: 'suffix', length: 7 });
  for (const whole of ['lines=1-2', 'bytes', 'bytes=0-1,5-6', 'items 3']) {
    assert.equal(parseRange(whole).kind, 'whole', whole);
  }
  for (const wrong of [
    'bytes=',
    'bytes=-',
    'bytes=-0',
    'bytes=9-5',
    'bytes=a-b',
    'bytes=1',
    'bytes=1-2-3',
    'bytes= -',
    'bytes=0x1-2',
  ]) {
    assert.equal(parseRange(wrong).kind, 'unsatisfiable', wrong);
  }
  assert.equal(parseRange(`bytes=${'9'.repeat(40)}-`).kind, 'unsatisfiable');
});

test('a Content-Range of a chunk, in each of its spellings', () => {
  for (const text of ['0-9', 'bytes 0-9/*', 'bytes 0-9/10', ' 0-9 ', '0-9/10', 'Bytes 0-9/11']) {
    assert.deepEqual(parseContentRange(text), { start: 0, end: 10 }, text);
  }
  for (const text of [
    '',
    '-',
    '0-',
    '-9',
    '9-0',
    'a-b',
    '0-9/5',
    '0-9/x',
    'bytes',
    '0--1',
    `0-${'9'.repeat(30)}`,
    '0-9, 10-19',
  ]) {
    assert.equal(parseContentRange(text), undefined, text);
  }
});

test('what an upload says about itself is never absent and never negative', () => {
  assert.equal(uploadRange(0), '0-0');
  assert.equal(uploadRange(1), '0-0');
  assert.equal(uploadRange(10), '0-9');
  assert.equal(contentRange({ start: 2, end: 5 }, 9), 'bytes 2-4/9');
});

test('no text makes a range that is not a range', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.string().map((text) => `bytes=${text}`),
        fc.stringMatching(/^bytes=[0-9,\- ]*$/),
      ),
      (text) => {
        const asked = parseRange(text);
        if (asked.kind === 'range') {
          assert.ok(Number.isSafeInteger(asked.range.start) && Number.isSafeInteger(asked.range.end));
          assert.ok(asked.range.start >= 0 && asked.range.end > asked.range.start);
        }
        if (asked.kind === 'suffix') assert.ok(asked.length > 0);
        const chunk = parseContentRange(text);
        if (chunk !== undefined)
          assert.ok(chunk.start >= 0 && chunk.end > chunk.start && Number.isSafeInteger(chunk.end));
      },
    ),
  );
  assert.equal(parseDigits(''), undefined);
  assert.equal(parseDigits('1e3'), undefined);
  assert.equal(parseDigits('٣'), undefined);
  assert.equal(parseDigits('99999999999999999999'), Number.MAX_SAFE_INTEGER);
});
