/** Tag history, roll back, undelete and purge over HTTP, on a real server. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../support/oci.ts';
import { ask } from '../support/wire.ts';
import { freshRepository } from './samples.ts';
import { api, as, at, expectProblem, openApi, type Persona } from './support.ts';

const server = await openApi();

interface Entry {
  readonly sequence: number;
  readonly tag: string;
  readonly kind: string;
  readonly from?: string;
  readonly to?: string;
  readonly at: string;
  readonly actor?: { readonly name?: string };
  readonly origin?: { readonly userAgent?: string; readonly address?: string; readonly requestId: string };
}

async function items<T>(path: string, persona: Persona = 'writer'): Promise<T[]> {
  const answer = await api(server, persona, 'GET', path);
  assert.equal(answer.status, 200, answer.text());
  return (answer.json() as { items: T[] }).items;
}

const history = (name: string, tag = 'v1'): Promise<Entry[]> => items<Entry>(at(name, `/tags/${tag}/history`));
const rollback = (name: string, body: object, headers: Record<string, string> = {}, persona: Persona = 'writer') =>
  api(server, persona, 'POST', at(name, '/tags/v1/rollback'), { body, headers });
const remove = (name: string, reference: string) =>
  ask(server, 'DELETE', `/v2/${name}/manifests/${reference}`, { headers: as('writer') });
const pulled = async (name: string, reference: string): Promise<string> => {
  const answer = await ask(server, 'HEAD', `/v2/${name}/manifests/${reference}`, { headers: as('reader') });
  return answer.status === 200 ? answer.header('docker-content-digest') : String(answer.status);
};

test('every move is in the history, and a roll back to a digest or an entry is one more', async () => {
  const name = 'team/history';
  const one = await freshRepository(server, name);
  const two = await freshRepository(server, name);
  const [second, first] = await history(name);
  assert.deepEqual([first?.kind, first?.from, first?.to], ['moved', undefined, one]);
  assert.deepEqual([second?.kind, second?.from, second?.to], ['moved', one, two]);
  assert.equal(new Date(second!.at).toISOString(), second!.at);
  const back = await rollback(name, { to: one }, { 'user-agent': 'the console\u00e9'.slice(0, 11) });
  assert.deepEqual([back.status, back.json()], [200, { tag: 'v1', digest: one }]);
  assert.equal(await pulled(name, 'v1'), one);
  assert.equal((await rollback(name, { to: second!.sequence })).status, 200);
  assert.equal(await pulled(name, 'v1'), two);
  // What moves nothing is no line.
  assert.equal((await rollback(name, { to: two })).status, 200);
  const entries = await history(name);
  assert.deepEqual(
    entries.map(({ kind, from, to, actor }) => [kind, from, to, actor?.name]),
    [
      ['rolled-back', one, two, 'writer'],
      ['rolled-back', two, one, 'writer'],
      ['moved', one, two, 'admin'],
      ['moved', undefined, one, 'admin'],
    ],
  );
  assert.deepEqual([entries[1]?.origin?.userAgent, entries[1]?.origin?.address], ['the console', '127.0.0.1']);
  // In the repository’s history too, page by page.
  await freshRepository(server, name, 'other');
  const whole: Entry[] = [];
  let path: string | undefined = `/api/v1${at(name, '/history')}?limit=2`;
  while (path !== undefined) {
    const page = await ask(server, 'GET', path, { headers: as('reader') });
    whole.push(...(page.json() as { items: Entry[] }).items);
    path = /^<([^>]+)>; rel="next"$/.exec(page.header('link'))?.[1];
  }
  assert.deepEqual(
    whole.map(({ tag }) => tag),
    ['other', 'v1', 'v1', 'v1', 'v1'],
  );
  assert.ok(whole.every((entry, index) => index === 0 || entry.sequence < whole[index - 1]!.sequence));
});

test('a roll back may be made a condition, by header or by field', async () => {
  const name = 'team/condition';
  const one = await freshRepository(server, name);
  const two = await freshRepository(server, name);
  for (const answer of [
    await rollback(name, { to: one, expect: one }),
    await rollback(name, { to: one, expect: null }),
    await rollback(name, { to: one }, { 'if-match': `"${one}"` }),
    await rollback(name, { to: one }, { 'if-none-match': '*' }),
  ]) {
    expectProblem(answer, 412, 'precondition_failed');
  }
  expectProblem(await rollback(name, { to: one, expect: one }, { 'if-match': `"${two}"` }), 400, 'invalid');
  assert.equal(await pulled(name, 'v1'), two);
  assert.equal((await rollback(name, { to: one, expect: two }, { 'if-match': `"${two}"` })).status, 200);
  assert.equal(await pulled(name, 'v1'), one);
  // Of many at once that expect the same, one moves it.
  const three = await freshRepository(server, name);
  const all = await Promise.all([one, two, one, two].map((to) => rollback(name, { to, expect: three })));
  assert.deepEqual(all.map(({ status }) => status).sort(), [200, 412, 412, 412]);
});

test('only to where the tag was, and not where a rule stands against it', async () => {
  const name = 'team/only';
  const one = await freshRepository(server, name);
  const elsewhere = await freshRepository(server, name, 'other');
  for (const to of [elsewhere, digestOf('never'), 999_999_999]) {
    expectProblem(await rollback(name, { to }), 409, 'conflict');
  }
  const entry = (await history(name, 'other'))[0]!;
  expectProblem(await rollback(name, { to: entry.sequence }), 409, 'conflict');
  assert.equal((await remove(name, 'v1')).status, 202);
  const gone = (await history(name))[0]!;
  assert.equal(gone.kind, 'deleted');
  expectProblem(await rollback(name, { to: gone.sequence }), 409, 'conflict');
  // A deleted tag goes back to where it was.
  assert.equal((await rollback(name, { to: one, expect: null })).status, 200);
  assert.equal(await pulled(name, 'v1'), one);
  const fixed = 'fixed/immutable';
  const kept = await freshRepository(server, fixed);
  await assert.rejects(freshRepository(server, fixed), /immutable/);
  assert.equal((await rollback(fixed, { to: kept }, {}, 'admin')).status, 200);
});

test('a manifest that was deleted comes back with the tag, in one step', async () => {
  const name = 'team/revive';
  const one = await freshRepository(server, name);
  const two = await freshRepository(server, name);
  assert.equal((await remove(name, one)).status, 202);
  assert.equal(await pulled(name, one), '404');
  expectProblem(await rollback(name, { to: one, expect: one }), 412);
  assert.equal(await pulled(name, one), '404', 'a roll back that is refused brings nothing back');
  assert.equal((await rollback(name, { to: one, expect: two })).status, 200);
  assert.equal(await pulled(name, 'v1'), one);
  // Purged, it is gone for good.
  assert.equal((await rollback(name, { to: two })).status, 200);
  assert.equal((await remove(name, one)).status, 202);
  const purged = await api(server, 'admin', 'DELETE', at(name, `/deleted/manifests/${one}`));
  assert.equal(purged.status, 204, purged.text());
  expectProblem(await rollback(name, { to: one }), 404, 'not_found');
  expectProblem(await api(server, 'admin', 'DELETE', at(name, `/deleted/manifests/${one}`)), 404, 'not_found');
});

test('what was deleted is listed and brought back', async () => {
  const name = 'team/undelete';
  const one = await freshRepository(server, name);
  await freshRepository(server, name, 'kept');
  interface Deleted {
    readonly kind: string;
    readonly tag?: string;
    readonly digest: string;
    readonly actor?: { readonly name?: string };
    readonly deletedAt?: string;
    readonly ticksLeft: number;
    readonly secondsLeft: number;
    readonly held: boolean;
  }
  const deleted = (): Promise<Deleted[]> => items<Deleted>(at(name, '/deleted'));
  assert.deepEqual(await deleted(), []);
  assert.equal((await remove(name, one)).status, 202);
  const [tag, manifest] = await deleted();
  assert.deepEqual(
    [tag?.kind, tag?.tag, tag?.digest, tag?.actor?.name, tag?.held],
    ['tag', 'v1', one, 'writer', false],
  );
  assert.deepEqual([manifest?.kind, manifest?.tag, manifest?.digest], ['manifest', undefined, one]);
  // Seven days, as it is without configuration, and the tick that has begun.
  assert.equal(tag?.ticksLeft, 1009);
  assert.equal(tag?.secondsLeft, 1009 * 600);
  const undelete = (body?: object) =>
    api(server, 'writer', 'POST', at(name, '/tags/v1/undelete'), body === undefined ? {} : { body });
  assert.deepEqual((await undelete()).json(), { tag: 'v1', digest: one });
  assert.equal(await pulled(name, 'v1'), one);
  assert.deepEqual(await deleted(), []);
  expectProblem(await undelete(), 404, 'not_found');
  assert.deepEqual(
    (await history(name)).map(({ kind }) => kind),
    ['restored', 'deleted', 'moved'],
  );
  // Made again meanwhile, it moves only for who knows where it is.
  assert.equal((await remove(name, 'v1')).status, 202);
  const again = await freshRepository(server, name);
  expectProblem(await undelete(), 412, 'precondition_failed');
  expectProblem(await undelete({ expect: one }), 412, 'precondition_failed');
  assert.equal((await undelete({ expect: again })).status, 200);
  assert.equal(await pulled(name, 'v1'), one);
  // A manifest alone.
  assert.equal((await remove(name, one)).status, 202);
  assert.equal((await api(server, 'writer', 'POST', at(name, `/manifests/${one}/undelete`))).status, 200);
  assert.equal(await pulled(name, one), one);
  assert.equal(await pulled(name, 'v1'), '404');
  expectProblem(await api(server, 'writer', 'POST', at(name, `/manifests/${digestOf('no')}/undelete`)), 404);
  // Purging the tag ends that.
  expectProblem(await api(server, 'writer', 'DELETE', at(name, '/deleted/tags/v1')), 403, 'forbidden');
  assert.equal((await api(server, 'admin', 'DELETE', at(name, '/deleted/tags/v1'))).status, 204);
  expectProblem(await undelete(), 404, 'not_found');
});

test('names with slashes, dots and underscores stand in one segment', async () => {
  for (const name of ['team/a.b/c__d', `team/${'x/'.repeat(60)}y`, `team/${'long'.repeat(62)}`]) {
    const digest = await freshRepository(server, name);
    const shown = await api(server, 'reader', 'GET', at(name));
    assert.equal(shown.status, 200, shown.text());
    const body = shown.json() as Record<string, unknown>;
    assert.deepEqual([body.name, body.tags, body.manifests], [name, 1, 1]);
    const tags = await items<{ name: string; digest: string; mediaType: string }>(at(name, '/tags'), 'reader');
    assert.deepEqual([tags[0]?.name, tags[0]?.digest], ['v1', digest]);
  }
});

test('a repository is deleted whole, and what had its name has no history here', async () => {
  const name = 'team/whole';
  for (let index = 0; index < 3; index++) await freshRepository(server, name, `t${index}`);
  assert.equal((await api(server, 'writer', 'DELETE', at(name))).status, 204);
  for (const path of ['', '/tags', '/history', '/deleted', '/holds', '/tags/t0/history']) {
    expectProblem(await api(server, 'writer', 'GET', at(name, path)), 404, 'not_found');
  }
  expectProblem(await api(server, 'writer', 'DELETE', at(name)), 404, 'not_found');
  await freshRepository(server, name);
  assert.equal((await items(at(name, '/history'))).length, 1);
  expectProblem(await api(server, 'writer', 'GET', at(name, '/tags/t0/history')), 404, 'not_found');
});
