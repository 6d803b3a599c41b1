import assert from 'node:assert/strict';
import { test } from 'node:test';
import { linesOf, markdown, shown } from './report.ts';
import { median, percentile } from './stats.ts';
import type { Figure, Measured, PeerName, Row, Values } from './types.ts';

function rowOf(figure: Omit<Figure, 'key' | 'title' | 'unit'>): Row {
  const figures = [{ key: 'x', title: 'figure', unit: 'ms', ...figure }];
  return { id: 'row', title: 'Row', figures, measure: async () => ({}) };
}

function measured(row: Row, peer: PeerName, values: readonly number[], errors: string[] = []): Measured {
  return { row, peer, rounds: values.map((x): Values => ({ x })), errors };
}

test('medians and percentiles', () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.ok(Number.isNaN(median([])));
  assert.equal(percentile([5, 1, 4, 2, 3], 0.99), 5);
  assert.equal(percentile([5, 1, 4, 2, 3], 0.5), 3);
  assert.ok(Number.isNaN(percentile([], 0.5)));
});

test('a goal against a peer is met by medians, in its direction', () => {
  const more = rowOf({ better: 'more', goals: [{ times: 5, of: 'distribution' }] });
  const [met] = linesOf([measured(more, 'longshore', [1, 50, 99]), measured(more, 'distribution', [10])]);
  assert.equal(met?.met, true);
  assert.equal(met?.ratio, 5);
  const less = rowOf({ better: 'less', goals: [{ times: 0.8, of: 'distribution' }] });
  const [missed] = linesOf([measured(less, 'longshore', [81]), measured(less, 'distribution', [100])]);
  assert.equal(missed?.met, false);
});

test('all goals have to be met; without the peer, or without a value, nothing is said', () => {
  const row = rowOf({ better: 'less', goals: [{ atMost: 10 }, { times: 1, of: 'distribution' }] });
  assert.equal(linesOf([measured(row, 'longshore', [11])])[0]?.met, false);
  assert.equal(linesOf([measured(row, 'longshore', [9])])[0]?.met, undefined);
  assert.equal(linesOf([measured(row, 'distribution', [9])])[0]?.met, undefined);
});

test('the report names what failed and breaks no table', () => {
  const row = rowOf({ better: 'less' });
  const text = markdown({ at: 'now', notes: ['a note'], measured: [measured(row, 'zot', [], ['a | b\nc'])] });
  assert.match(text, /failed: a {3}b c/);
  assert.match(text, /- a note/);
});

test('three digits that matter', () => {
  assert.deepEqual([0, 0.1234, 1.234, 12.34, 123.4, 12_345, Number.NaN].map(shown), [
    '0',
    '0.123',
    '1.23',
    '12.3',
    '123',
    '12,345',
    '–',
  ]);
});
