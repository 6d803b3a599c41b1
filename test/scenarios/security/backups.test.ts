/** Threat cases 36, 48 and 49 for backups: a place that somebody else filled is refused, and nothing of it is done. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { temporaryFolder } from '../../support/temp.ts';
import { addUser, cli } from '../support/open.ts';

interface Piece {
  record: string;
  sha256: string;
}
interface Point {
  id: string;
  tables: { name: string; columns: string[]; rows: number; pieces: Piece[] }[];
  blobs: { count: number; pieces: Piece[] };
}

const sha256 = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex');

it('T36 T48 T49 a hostile backup: bombs, names of files and of tables are refused, and nothing half is served', async () => {
  const data = temporaryFolder('data');
  await addUser(data, 'alice', 'alice has a long password');
  const place = temporaryFolder('place');
  const made = await cli(['backup', '--to', place, '--data', data]);
  assert.equal(made.code, 0, made.output);
  const folder = join(place, 'records/points');
  const file = join(folder, readdirSync(folder)[0]!);
  const [, text = ''] = readFileSync(file, 'utf8').split('\n');
  const bomb = zstdCompressSync(Buffer.alloc(512 * 1024 * 1024));
  assert.ok(bomb.length < 100_000);

  const restore = async (change: (point: Point) => void, command = ['restore', '--from', place]) => {
    const point = JSON.parse(text) as Point;
    writeFileSync(join(place, `records/dumps/${point.id}/bomb`), bomb);
    change(point);
    const body = JSON.stringify(point);
    writeFileSync(file, `${sha256(body)}\n${body}\n`);
    const target = temporaryFolder('target');
    const ran = await cli([...command, '--data', target]);
    return { ...ran, target };
  };
  const table = (point: Point) => point.tables.find(({ name }) => name === 'account')!;
  const pieceOf = (point: Point): Piece => ({ record: `dumps/${point.id}/bomb`, sha256: sha256(bomb) });

  for (const [what, said, change] of [
    ['a bomb', /cannot be unpacked/, (point: Point) => table(point).pieces.splice(0, 1, pieceOf(point))],
    ['a file elsewhere', /is damaged/, (point: Point) => (table(point).pieces[0]!.record = '../../../etc/passwd')],
    ['a table of the moment', /no backup has/, (point: Point) => (table(point).name = 'lease')],
  ] as const) {
    const { code, output, target } = await restore(change);
    assert.equal(code, 1, `${what}: ${output}`);
    assert.match(output, said, what);
    assert.doesNotMatch(output, /root:|^\s+at /m, what);
    // What was begun is not served: neither half an installation nor an empty one in its name.
    if (!existsSync(join(target, 'longshore.db'))) continue;
    const listed = await cli(['user', 'list', '--data', target]);
    assert.notEqual(listed.code, 0, `${what}: ${listed.output}`);
    assert.match(listed.output, /longshore restore/, what);
    if (what !== 'a bomb') continue;
    const again = await cli(['backup', '--to', temporaryFolder('half'), '--data', target]);
    assert.equal(again.code, 1, again.output);
    assert.match(again.output, /longshore restore/);
  }
  const lists = (point: Point) => void (point.blobs.pieces = [pieceOf(point)]);
  const verified = await restore(lists, ['backup', 'verify', '--to', place]);
  assert.equal(verified.code, 1, verified.output);
  assert.match(verified.output, /cannot be unpacked/);
  // As it was made, it is whole.
  const whole = await restore(() => undefined);
  assert.equal(whole.code, 0, whole.output);
  const listed = await cli(['user', 'list', '--data', whole.target]);
  assert.match(listed.output, /alice/);
});
