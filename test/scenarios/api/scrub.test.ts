/** Scrub and damage over HTTP: what a pull met is listed, and a push closes it. */
import assert from 'node:assert/strict';
import { globSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { bytesOf, pushBlob } from '../support/oci.ts';
import { ask } from '../support/wire.ts';
import { api, as, expectProblem, openApi } from './support.ts';

const server = await openApi();

interface Damaged {
  readonly items: readonly {
    readonly digest: string;
    readonly state: string;
    readonly foundBy: string;
    readonly foundAt: string;
  }[];
  readonly next?: string;
}

const damaged = async (query = ''): Promise<Damaged> => {
  const answer = await api(server, 'admin', 'GET', `/scrub/damaged${query}`);
  assert.equal(answer.status, 200, answer.text());
  return answer.json() as Damaged;
};

test('what is damaged is listed until it is pushed again', async () => {
  const status = await api(server, 'admin', 'GET', '/scrub');
  assert.equal(status.status, 200, status.text());
  assert.equal((status.json() as { open: number }).open, 0);
  assert.deepEqual((await damaged()).items, []);
  const bytes = bytesOf(345_678);
  const digest = await pushBlob(server, 'team/rotten', bytes, as('admin'));
  const file = globSync(join(server.data, 'storage/blobs/**/*')).find((path) => statSync(path).size === bytes.length);
  const stored = readFileSync(file!);
  stored[5]! ^= 1;
  writeFileSync(file!, stored);
  const pull = (): Promise<{ status: number }> =>
    ask(server, 'GET', `/v2/team/rotten/blobs/${digest}`, { headers: as('admin') });
  assert.equal((await pull()).status, 404);
  const [item] = (await damaged()).items;
  assert.deepEqual([item?.digest, item?.state, item?.foundBy], [digest, 'open', 'pull']);
  assert.ok(Math.abs(Date.parse(item?.foundAt ?? '') - Date.now()) < 600_000);
  assert.equal(((await api(server, 'admin', 'GET', '/scrub')).json() as { open: number }).open, 1);
  await pushBlob(server, 'team/rotten', bytes, as('admin'));
  assert.equal((await pull()).status, 200);
  assert.deepEqual((await damaged()).items, []);
  assert.equal((await damaged('?state=all&limit=1')).items[0]?.state, 'healed');
  expectProblem(await api(server, 'admin', 'GET', '/scrub/damaged?state=odd'), 400, 'invalid');
});

test('only for administrators of the registry', async () => {
  for (const path of ['/scrub', '/scrub/damaged']) {
    assert.equal((await ask(server, 'GET', `/api/v1${path}`)).status, 401, path);
  }
});
