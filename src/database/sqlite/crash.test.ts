import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { test } from 'node:test';
import { TEST_COMMANDS } from '../commands.testing.ts';
import { openTestSqlite } from '../open.testing.ts';

const options = { commands: TEST_COMMANDS, writer: new URL('../writer.testing.ts', import.meta.url) };

/** Runs the process until it dies and gives what it was told is stored. */
function crash(folder: string, name: string, count: number, from: number): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const acknowledged: number[] = [];
    const child = fork(new URL('./crash.testing.ts', import.meta.url), [folder, name, String(count), String(from)]);
    child.on('message', (n) => acknowledged.push(Number(n)));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (signal === 'SIGKILL') resolve(acknowledged);
      else reject(new Error(`the process ended by itself: ${code}`));
    });
  });
}

test('a process killed around a commit loses nothing it acknowledged and keeps no half', async () => {
  const first = await openTestSqlite(options);
  await first.database.close();
  const { folder } = first;
  try {
    const acknowledged: number[] = [];
    let from = 0;
    for (const [name, count] of [
      ['writer.commit.before', 1],
      ['writer.commit.after', 1],
      ['writer.commit.before', 7],
      ['writer.commit.after', 7],
    ] as const) {
      const told = await crash(folder, name, count, from);
      assert.ok(count === 1 ? told.length === 0 : told.length > 0);
      acknowledged.push(...told);
      from += 10_000;
    }
    const again = await openTestSqlite({ ...options, folder });
    const rows = await again.database.query.all<{ n: number; halves: number }>(
      'select seen_tick as n, count(*) as halves from orphan group by seen_tick',
    );
    const stored = new Set(rows.map(({ n }) => n));
    assert.ok(rows.every(({ halves }) => halves === 2));
    assert.deepEqual(
      acknowledged.filter((n) => !stored.has(n)),
      [],
    );
    // Killed before its first commit nothing is there; killed after it, the batch is.
    assert.equal([...stored].filter((n) => n < 10_000).length, 0);
    assert.ok([...stored].some((n) => n >= 10_000 && n < 20_000));
    const check = await again.database.query.get<Record<string, string>>('pragma integrity_check');
    assert.equal(Object.values(check ?? {})[0], 'ok');
    await again.stop();
  } finally {
    await first.stop();
  }
});
