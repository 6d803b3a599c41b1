/**
 * The wall clock jumps by ten years, either way, under the running program: what is deleted, and what is not, is the
 * same as without a jump. The program's wall clock is moved by libfaketime; its monotonic clock stays.
 */
import assert from 'node:assert/strict';
import { globSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { client } from '../support/client.ts';
import { image, piece } from '../support/images.ts';
import { startLongshore } from '../support/server.ts';
import { temporaryFolder } from '../support/temp.ts';
import { withTools } from '../support/tools.ts';
import { disagreements } from './disk.ts';

const CONFIG = {
  gc: { tick: '1s', graceTicks: 9, undeleteTicks: 1, deleteAfterTicks: 1, haltPercent: 100 },
  log: { access: false, level: 'warn' },
};
const BASE = '/v2/clock/jumps';

/** The same bytes in every run: large ones that lie in files, and a small one. */
const of = (letter: string) => image({ layers: [piece(letter.repeat(100_000)), piece(`small ${letter}`)] });

/** Pushes, jumps, deletes; gives which blobs were there right after the jump, and which are left at the end. */
async function run(library: string, jump: string): Promise<{ soon: string; late: string; wall: number }> {
  const stamp = join(temporaryFolder('clock'), 'offset');
  writeFileSync(stamp, '+0');
  const data = temporaryFolder('clock-data');
  const env = {
    LD_PRELOAD: library,
    FAKETIME_TIMESTAMP_FILE: stamp,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    DONT_FAKE_MONOTONIC: '1',
  };
  const server = await startLongshore({ data, config: CONFIG, env });
  const http = client(server.url);
  const [kept, deleted, later] = [of('k'), of('d'), of('l')];
  const alone = piece('a'.repeat(100_000));
  const blobs = Object.entries({ kept, deleted, later }).flatMap(([name, { blobs }]) =>
    blobs.map((blob, n) => ({ name: `${name} ${n}`, blob })),
  );
  blobs.push({ name: 'alone', blob: alone });
  const there = async (): Promise<string[]> => {
    const found: string[] = [];
    for (const { name, blob } of blobs)
      if ((await http.hash(`${BASE}/blobs/${blob.digest}`)).status === 200) found.push(name);
    return found;
  };
  for (const [tag, pushed] of Object.entries({ kept, deleted, later }))
    await http.pushImage('clock/jumps', pushed, tag);
  assert.equal((await http.send('DELETE', `${BASE}/manifests/${deleted.manifest.digest}`)).status, 202);
  assert.equal((await http.pushBlob('clock/jumps', alone)).status, 201);
  writeFileSync(stamp, jump);
  const soon = (await there()).join();
  assert.equal((await http.send('DELETE', `${BASE}/manifests/${later.manifest.digest}`)).status, 202);
  const wanted = blobs.filter(({ name }) => name.startsWith('kept')).length;
  let left = await there();
  for (let tries = 0; tries < 480 && left.length > wanted; tries++) {
    await sleep(250);
    left = await there();
  }
  assert.equal((await http.hash(`${BASE}/manifests/kept`)).digest, kept.manifest.digest);
  // A few more ticks take nothing else.
  await sleep(2_000);
  const late = (await there()).join();
  const wall = Date.parse(String((await http.send('GET', '/livez')).headers.date));
  http.close();
  await server.stop();
  assert.deepEqual(disagreements(data), []);
  return { soon, late, wall };
}

withTools(['faketime'], 'a wall clock that jumps', () => {
  test('ten years forth or back: the same deletions as without a jump', async () => {
    const library = globSync('/usr/lib/*/faketime/libfaketimeMT.so.1')[0];
    assert.ok(library !== undefined, 'the library of faketime');
    const [still, forth, back] = await Promise.all(['+0', '+3650d', '-3650d'].map((jump) => run(library, jump)));
    assert.ok(still !== undefined && forth !== undefined && back !== undefined);
    const years = (milliseconds: number): number => Math.round(milliseconds / 365 / 86_400_000);
    assert.equal(years(forth.wall - still.wall), 10);
    assert.equal(years(back.wall - still.wall), -10);
    assert.equal(still.late, 'kept 0,kept 1,kept 2');
    for (const one of [forth, back]) assert.deepEqual([one.soon, one.late], [still.soon, still.late]);
  });
});
