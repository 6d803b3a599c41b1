/**
 * Who may call what: every operation of the OpenAPI document × every kind of caller × a repository that they see or do
 * not (threats.md 23, 33, 34). An operation without a sample fails.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT } from '../../support/server.ts';
import { bearer, digestOf, token } from '../support/oci.ts';
import type { Answer } from '../support/wire.ts';
import { SAMPLES, type Sample } from './samples.ts';
import {
  api,
  as,
  at,
  expectProblem,
  filled,
  type Operation,
  openApi,
  operationsOf,
  PERSONAS,
  type Persona,
  RIGHTS,
} from './support.ts';

const server = await openApi();
const operations = await operationsOf(server);
let count = 0;

function send(operation: Operation, persona: Persona, sample: Sample): Promise<Answer> {
  const { body } = sample;
  return api(server, persona, operation.method, filled(operation, sample.params), body === undefined ? {} : { body });
}

/** What must come: the success, or a refusal. */
function expected({ right, status }: Operation, persona: Persona, repository: string): number {
  if (right.on === 'anyone') return status;
  const action = right.action ?? '';
  if (persona === 'anonymous') return 401;
  if (right.on === 'registry') return action === 'registry.catalog' || persona === 'admin' ? status : 403;
  const may = RIGHTS[persona][repository.split('/')[0]!] ?? [];
  if (may.includes(action)) return status;
  return may.includes('repository.pull') ? 403 : 404;
}

/** What tells two refusals apart, if anything does. */
function outside(answer: Answer): unknown {
  const body = answer.json() as Record<string, unknown>;
  const headers = answer.rawHeaders
    .filter(([name]) => name !== 'date')
    .map(([name, value]) => [name, value.replace(/repository:[^:"]*/, 'repository:…')]);
  return { status: answer.status, headers, body: { ...body, requestId: '' } };
}

test('every operation has a sample, and every one of the document is served here', () => {
  assert.ok(operations.length >= 20, `only ${operations.length} operations`);
  const served = operations.map(({ id }) => id).sort();
  assert.deepEqual(served, Object.keys(SAMPLES).sort());
  // A feature with a section that has routes is switched on in `openApi`.
  const document = readFileSync(join(ROOT, 'docs/api/openapi.json'), 'utf8');
  const declared = [...document.matchAll(/"operationId": "(\w+)"/g)].map(([, id]) => id);
  assert.deepEqual(served, declared.sort());
});

test('no path says more than the document: every parameter is known', () => {
  for (const { path } of operations) assert.match(path, /^(\/[a-z.]+|\/\{(name|tag|digest|id)\})+$/);
});

for (const operation of operations) {
  test(`${operation.id}: ${operation.method} ${operation.path}`, async () => {
    const prepare = SAMPLES[operation.id]!;
    for (const first of ['team', 'secret']) {
      for (const persona of PERSONAS) {
        const name = `${first}/sub/${++count}`;
        const sample = await prepare(server, name);
        const answer = await send(operation, persona, sample);
        const status = expected(operation, persona, name);
        assert.equal(answer.status, status, `${persona} at ${name}: ${answer.status} ${answer.text().slice(0, 300)}`);
        if (status < 300) {
          assert.match(answer.header('content-security-policy'), /default-src 'none'/);
          assert.equal(answer.header('cache-control'), 'no-store');
          continue;
        }
        expectProblem(answer, status);
        assert.equal(answer.all('www-authenticate').length, status === 401 ? 2 : 0);
        if (status === 403 || operation.right.on === 'registry') continue;
        // What is not there is answered exactly like what may not be seen.
        const none = {
          ...sample.params,
          ...('id' in sample.params ? { id: randomUUID() } : { name: `${first}/sub/none` }),
        };
        const missing = await send(operation, persona, { ...sample, params: none });
        assert.deepEqual(outside(missing), outside(answer), `${persona} at ${name}`);
        // And nothing was done.
        if (operation.method !== 'GET') {
          assert.equal(
            (await send(operation, 'admin', sample)).status,
            operation.status,
            `${persona} changed something`,
          );
        }
      }
    }
  });
}

test('lists show only what may be pulled', async () => {
  const names = (persona: Persona): Promise<string[]> => all(persona, '/repositories', 'name');
  assert.equal((await names('other')).length, 0);
  const seen = await names('reader');
  assert.ok(seen.length > 5);
  assert.ok(seen.every((name) => name.startsWith('team/')));
  assert.ok((await names('admin')).some((name) => name.startsWith('secret/')));
  for (const name of ['team/held', 'secret/held']) {
    await SAMPLES.listHolds!(server, name);
    await api(server, 'admin', 'POST', at(name, '/holds'), { body: { reason: 'kept' } });
  }
  const holds = await all('reader', '/holds', 'repository');
  assert.ok(holds.includes('team/held'));
  assert.ok(holds.every((name) => name.startsWith('team/')));
  assert.ok((await all('admin', '/holds', 'repository')).includes('secret/held'));
  assert.deepEqual(await all('other', '/holds', 'repository'), []);
});

async function all(persona: Persona, path: string, field: string): Promise<string[]> {
  const found: string[] = [];
  let next: string | undefined = `${path}?limit=7`;
  while (next !== undefined) {
    const answer: Answer = await api(server, persona, 'GET', next);
    assert.equal(answer.status, 200);
    found.push(...(answer.json() as { items: Record<string, string>[] }).items.map((one) => one[field] ?? ''));
    const link: string | undefined = /^<\/api\/v1([^>]+)>; rel="next"$/.exec(answer.header('link'))?.[1];
    assert.equal(link === undefined, (answer.json() as { next?: string }).next === undefined);
    next = link;
  }
  return found;
}

test('a token reaches as far as its scope and the account’s present rights, no further', async () => {
  const name = 'team/token';
  await SAMPLES.getTagHistory!(server, name);
  const history = at(name, '/tags/v1/history');
  const withToken = async (scope: string, persona: Persona, method: string, path: string, body?: object) => {
    const headers = bearer(await token(server, [scope], as(persona))) as Record<string, string>;
    return api(server, 'anonymous', method, path, { headers, ...(body === undefined ? {} : { body }) });
  };
  const pull = `repository:${name}:pull`;
  assert.equal((await withToken(pull, 'writer', 'GET', history)).status, 200);
  const narrow = await withToken(pull, 'writer', 'GET', at(name, '/deleted'));
  expectProblem(narrow, 401, 'unauthorized');
  assert.match(
    narrow.all('www-authenticate')[0] ?? '',
    /scope="repository:team\/token:pull,push",error="insufficient_scope"/,
  );
  assert.equal((await withToken(`repository:${name}:pull,push`, 'writer', 'GET', at(name, '/deleted'))).status, 200);
  // Of another repository, and of rights that the account has not.
  expectProblem(await withToken('repository:team/else:pull', 'writer', 'GET', history), 401);
  const hold = { reason: 'kept' };
  const scope = `repository:${name}:pull,hold`;
  assert.equal((await withToken(scope, 'writer', 'POST', at(name, '/holds'), hold)).status, 403);
  assert.equal((await withToken(scope, 'admin', 'POST', at(name, '/holds'), hold)).status, 201);
  assert.equal((await withToken('registry:admin:*', 'admin', 'GET', '/gc')).status, 200);
  expectProblem(await withToken('registry:catalog:*', 'admin', 'GET', '/gc'), 401);
  expectProblem(await withToken('registry:admin:*', 'writer', 'GET', '/gc'), 403);
});

test('bad credentials are refused where nobody need sign in too', async () => {
  const headers = { authorization: `Basic ${Buffer.from('writer:wrong').toString('base64')}` };
  for (const path of ['/openapi.json', '/repositories', at('team/a')]) {
    expectProblem(await api(server, 'anonymous', 'GET', path, { headers }), 401, 'unauthorized');
  }
  expectProblem(
    await api(server, 'anonymous', 'GET', '/repositories', { headers: { authorization: 'Digest x' } }),
    401,
    'unauthorized',
  );
});

test('who did it is for those who signed in, from where for those who may push', async () => {
  const name = 'team/origin';
  await SAMPLES.getTagHistory!(server, name);
  const entry = async (persona: Persona) =>
    ((await api(server, persona, 'GET', at(name, '/tags/v1/history'))).json() as { items: Record<string, unknown>[] })
      .items[0]!;
  const reader = await entry('reader');
  assert.deepEqual(reader.actor, { id: 'user:htpasswd:admin', name: 'admin' });
  assert.equal(reader.origin, undefined);
  const writer = (await entry('writer')).origin as Record<string, string>;
  assert.equal(writer.address, '127.0.0.1');
  assert.match(writer.requestId ?? '', /^[\w-]+$/);
  assert.equal(digestOf('x').length, String(reader.to).length);
});
