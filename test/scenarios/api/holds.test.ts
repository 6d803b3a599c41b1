/** Holds over HTTP: each target against each door, on a real server. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { ask, eventually } from '../support/wire.ts';
import { freshRepository } from './samples.ts';
import { api, as, at, expectProblem, openApi } from './support.ts';

const server = await openApi();

const place = async (name: string, body: object): Promise<string> => {
  const answer = await api(server, 'admin', 'POST', at(name, '/holds'), { body: { reason: 'case 4711', ...body } });
  assert.equal(answer.status, 201, answer.text());
  return (answer.json() as { id: string }).id;
};
const lift = async (id: string): Promise<void> => {
  assert.equal((await api(server, 'admin', 'DELETE', `/holds/${id}`)).status, 204);
};
const remove = async (name: string, reference: string): Promise<{ status: number; text: string }> => {
  const answer = await ask(server, 'DELETE', `/v2/${name}/manifests/${reference}`, { headers: as('admin') });
  return { status: answer.status, text: answer.text() };
};

test('what each hold stops, through /v2/ and the API, and that lifting it ends that', async () => {
  for (const target of ['repository', 'tag', 'manifest'] as const) {
    const name = `team/held/${target}`;
    const old = await freshRepository(server, name);
    const digest = await freshRepository(server, name);
    const id = await place(name, target === 'tag' ? { tag: 'v1' } : target === 'manifest' ? { digest } : {});
    const byDigest = await remove(name, digest);
    assert.equal(byDigest.status, 405, target);
    assert.match(byDigest.text, /case 4711/);
    const whole = expectProblem(await api(server, 'admin', 'DELETE', at(name)), 409, 'conflict');
    assert.match(String(whole.detail), /case 4711/);
    const byTag = await remove(name, 'v1');
    assert.equal(byTag.status, target === 'manifest' ? 202 : 405, target);
    if (target === 'manifest') {
      assert.equal((await api(server, 'admin', 'POST', at(name, '/tags/v1/undelete'))).status, 200);
    }
    // A held tag does not move; the others let it.
    const moved = await api(server, 'admin', 'POST', at(name, '/tags/v1/rollback'), { body: { to: old } });
    if (target === 'tag') expectProblem(moved, 403, 'forbidden');
    else assert.equal(moved.status, 200, moved.text());
    const push = freshRepository(server, name);
    if (target === 'tag') await assert.rejects(push, /403.*case 4711/s);
    else await push;
    await lift(id);
    expectProblem(await api(server, 'admin', 'DELETE', `/holds/${id}`), 404, 'not_found');
    assert.equal((await remove(name, digest)).status, 202);
    const again = await place(name, { digest });
    expectProblem(await api(server, 'admin', 'DELETE', at(name, `/deleted/manifests/${digest}`)), 409, 'conflict');
    await lift(again);
    assert.equal((await api(server, 'admin', 'DELETE', at(name, `/deleted/manifests/${digest}`))).status, 204);
    assert.equal((await api(server, 'admin', 'DELETE', at(name))).status, 204);
  }
});

test('a hold is shown, listed and has its end', async () => {
  const name = 'team/shown';
  const digest = await freshRepository(server, name);
  const until = new Date(Date.now() + 5_000).toISOString();
  const id = await place(name, { digest, until, reason: '  trimmed  ' });
  const shown = (await api(server, 'reader', 'GET', `/holds/${id}`)).json() as Record<string, unknown>;
  assert.deepEqual(
    [shown.id, shown.repository, shown.digest, shown.tag, shown.reason, shown.until, shown.actor],
    [id, name, digest, undefined, 'trimmed', until, { id: 'user:htpasswd:admin', name: 'admin' }],
  );
  assert.equal((await remove(name, digest)).status, 405);
  await eventually('the hold ends', async () => {
    const now = (await api(server, 'reader', 'GET', `/holds/${id}`)).json() as { active: boolean };
    return now.active ? undefined : true;
  });
  assert.equal((await remove(name, digest)).status, 202);
  const listed = (await api(server, 'reader', 'GET', at(name, '/holds'))).json() as { items: { id: string }[] };
  assert.deepEqual(
    listed.items.map((one) => one.id),
    [id],
  );
});

test('only what is there can be held, and only by whoever may', async () => {
  const name = 'team/only';
  await freshRepository(server, name);
  const hold = (persona: 'admin' | 'writer', body: object, at_ = name) =>
    api(server, persona, 'POST', at(at_, '/holds'), { body: { reason: 'x', ...body } });
  expectProblem(await hold('admin', { tag: 'never' }), 404, 'not_found');
  expectProblem(await hold('admin', { digest: `sha256:${'0'.repeat(64)}` }), 404, 'not_found');
  expectProblem(await hold('admin', {}, 'team/none'), 404, 'not_found');
  expectProblem(await hold('writer', {}), 403, 'forbidden');
  expectProblem(await api(server, 'admin', 'GET', `/holds/${randomUUID()}`), 404, 'not_found');
  assert.match(server.output(), /"msg":"request"/);
});
