/**
 * Threat cases 23, 33 and 34 on the REST API: every operation of the OpenAPI document × every way of saying who one is.
 * Only what the credential was given for is done; nothing else says more than a refusal, or changes anything. (Who may
 * what by name and password is `scenarios/api/access-matrix.test.ts`.)
 */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { freshRepository, SAMPLES } from '../api/samples.ts';
import {
  api,
  as,
  at,
  expectProblem,
  filled,
  type Operation,
  openApi,
  operationsOf,
  passwordOf,
} from '../api/support.ts';
import { basic, bearer, get, token } from '../support/oci.ts';
import { type Answer, head, rawAsk } from '../support/wire.ts';

const server = await openApi();
const operations = await operationsOf(server);
const ACTIONS = 'pull,push,delete,purge,hold';
let count = 0;

/** Scopes that an administrator needs for an operation on a repository: all there are. */
const scopesOf = (repository: string): string[] => [
  `repository:${repository}:${ACTIONS}`,
  'registry:catalog:*',
  'registry:admin:*',
];
const actionOf = ({ right }: Operation): string => right.action ?? '';

async function tokensOf(persona: 'admin' | 'writer', scopes: readonly string[]) {
  const query = scopes.map((scope) => `scope=${encodeURIComponent(scope)}`).join('&');
  const answer = await get(server, `/token?offline_token=true&service=longshore&${query}`, as(persona));
  assert.equal(answer.status, 200);
  return answer.json() as { token: string; refresh_token: string };
}

describe('REST API: kinds of credentials', () => {
  for (const operation of operations.filter(({ right }) => right.on !== 'anyone')) {
    it(`T23 ${operation.id}: a credential does what it was given for, and nothing else does anything`, async () => {
      const name = `team/kinds/${++count}`;
      const sample = await SAMPLES[operation.id]!(server, name);
      const send = (headers: Record<string, string>): Promise<Answer> =>
        api(server, 'anonymous', operation.method, filled(operation, sample.params), {
          headers,
          ...(sample.body === undefined ? {} : { body: sample.body }),
        });
      const { token: whole, refresh_token: refresh } = await tokensOf('admin', scopesOf(name));
      const narrowed = async (scopes: readonly string[]) => (await tokensOf('admin', scopes)).token;
      // Everything but the one right that it needs.
      const others = ACTIONS.split(',').filter((action) => `repository.${action}` !== actionOf(operation));
      const lacking = await narrowed([
        `repository:${name}:${others.join(',')}`,
        ...['catalog', 'admin']
          .filter((kind) => `registry.${kind}` !== actionOf(operation))
          .map((k) => `registry:${k}:*`),
      ]);
      const elsewhere = await narrowed([`repository:${name}/x:${ACTIONS}`, `repository:team/kinds:${ACTIONS}`]);
      const refused: [string, Record<string, string>][] = [
        ['nothing', {}],
        ['no scope', bearer(await narrowed([]))],
        ['every other right', bearer(lacking)],
        ['another repository', bearer(elsewhere)],
        ['an anonymous token', bearer(await token(server, scopesOf(name)))],
        ['a refresh token', bearer(refresh)],
        ['a refresh token as password', basic('admin', refresh) as Record<string, string>],
        ['a token in a cookie', { cookie: `token=${whole}; session=${whole}; longshore=${whole}` }],
        [
          'a token in another header',
          { 'x-api-key': whole, 'x-auth-token': whole, 'proxy-authorization': `Bearer ${whole}` },
        ],
        ['a token with another signature', bearer(`${whole.slice(0, -12)}AAAAAAAAAAAA`)],
        ['a password as token', bearer(passwordOf('admin'))],
        [
          'the name of a proxy’s user',
          { 'x-webauth-user': 'admin', 'x-forwarded-user': 'admin', 'remote-user': 'admin' },
        ],
        ['a wrong password', basic('admin', `${passwordOf('admin')}x`) as Record<string, string>],
        ['no password', basic('admin', '') as Record<string, string>],
      ] as [string, Record<string, string>][];
      for (const [what, headers] of refused) {
        // A cookie without an origin is no write of a program: refused before anybody is asked who it is.
        const status = headers.cookie !== undefined && operation.method !== 'GET' ? 403 : 401;
        const answer = await send(headers);
        assert.equal(answer.status, status, `${what}: ${answer.status} ${answer.text().slice(0, 300)}`);
        expectProblem(answer, status);
      }
      // In the query a token is a parameter that no route knows.
      for (const parameter of ['access_token', 'token', 'jwt']) {
        const path = `${filled(operation, sample.params)}?${parameter}=${whole}`;
        const answer = await api(server, 'anonymous', operation.method, path, sample.body ? { body: sample.body } : {});
        assert.equal(answer.status, 401, `${parameter} ${answer.text()}`);
        assert.ok(!answer.text().includes(whole));
      }
      // The same account’s full rights do not reach further than those of the account that has fewer.
      if (actionOf(operation) !== 'registry.catalog' && !/pull|push|delete/.test(actionOf(operation))) {
        const { token: wide } = await tokensOf('writer', scopesOf(name));
        const status = (await send(bearer(wide) as Record<string, string>)).status;
        assert.ok(status === 401 || status === 403, `${status}`);
      }
      // After all that it is as it was: the request still does what it does.
      const done = await send(bearer(whole) as Record<string, string>);
      assert.equal(done.status, operation.status, done.text());
    });
  }

  it('T23 of two ways of saying who one is the first counts, and no other', async () => {
    const name = `team/two/${++count}`;
    await freshRepository(server, name);
    const path = `/api/v1${at(name, '/deleted')}`;
    const basicOf = (who: string, password: string) => `Authorization: ${basic(who, password).authorization}`;
    const reader = basicOf('reader', passwordOf('reader'));
    const admin = basicOf('admin', passwordOf('admin'));
    // The first line counts, and no other one: here and on /v2/.
    for (const [status, ...headers] of [
      [403, reader, admin],
      [200, admin, reader],
      [401, 'Authorization: Basic x', admin],
      [401, 'Authorization:', admin],
    ] as const) {
      const answer = await rawAsk(server, head('GET', path, headers));
      assert.equal(answer.status, status, headers.join(' '));
    }
  });

  it('T33 what may not be seen is in no list, no cursor, no count and no metric', async () => {
    const hidden = ['secret/aaa-hidden', 'secret/zzz-hidden', 'other/mmm-hidden'];
    for (const name of hidden) {
      await freshRepository(server, name);
      await api(server, 'admin', 'POST', at(name, '/holds'), { body: { reason: 'hidden-reason' } });
    }
    for (const name of ['team/list/a', 'team/list/b', 'team/list/c']) await freshRepository(server, name);
    for (const start of ['/repositories?limit=1', '/holds?limit=1', '/repositories?limit=1000', '/holds?limit=1000']) {
      for (let next: string | undefined = start, pages = 0; next !== undefined && pages < 100; pages++) {
        const answer: Answer = await api(server, 'reader', 'GET', next);
        assert.equal(answer.status, 200);
        const cursor = (answer.json() as { next?: string }).next ?? '';
        const all = `${answer.text()}${JSON.stringify(answer.rawHeaders)}${Buffer.from(cursor, 'base64url')}`;
        assert.doesNotMatch(all, /hidden|secret\/|other\//, start);
        next = /^<\/api\/v1([^>]+)>; rel="next"$/.exec(answer.header('link'))?.[1];
      }
    }
    // A cursor made for a hidden place starts there, and shows no more.
    const catalog = await get(server, '/v2/_catalog?n=1000&last=secret/', as('reader'));
    assert.doesNotMatch(catalog.text(), /hidden/);
    for (const path of ['/metrics', '/livez', '/readyz'])
      assert.doesNotMatch((await get(server, path)).text(), /hidden|team\/list/, path);
    for (const path of ['/gc', '/scrub', '/scrub/damaged', `/gc/explain/sha256:${'0'.repeat(64)}`])
      for (const persona of ['reader', 'writer', 'other'] as const)
        assert.ok([403, 404].includes((await api(server, persona, 'GET', path)).status), path);
  });
});

after(() => assert.doesNotMatch(server.output(), /"level":"error"/));
