/** Whatever is sent to any route: an answer in 4xx that says what is wrong, nothing of the inside, and no change. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../support/oci.ts';
import { type Answer, ask, head, rawAsk } from '../support/wire.ts';
import { freshRepository, SAMPLES, type Sample } from './samples.ts';
import { api, as, at, expectProblem, filled, type Operation, openApi, operationsOf } from './support.ts';

const server = await openApi();
const operations = await operationsOf(server);
let count = 0;

async function sampleOf(operation: Operation): Promise<Sample> {
  return SAMPLES[operation.id]!(server, `team/bad/${++count}`);
}

function isRefused(answer: Answer, what: string): void {
  assert.ok(answer.status >= 400 && answer.status < 500, `${what}: ${answer.status} ${answer.text().slice(0, 200)}`);
  expectProblem(answer, answer.status);
}

/** Path segments that are no name, tag, digest or id, as they stand in the path. */
const HOSTILE = [
  '%2e%2e',
  '..%2f..%2fetc%2fpasswd',
  '%2e%2e%2fadmin',
  'a%2F%2Fb',
  '%2Fa',
  'a%2F',
  '%00',
  'a%00b',
  'a%0d%0aX:%20y',
  '%252e%252e',
  'a%252Fb',
  'a%5Cb',
  'A%20B',
  '%F0%9F%92%A9',
  '%C0%AE',
  '%zz',
  '%',
  'a%3Fb',
  '-',
  "'%20or%201=1--",
  '%22%3B%20drop%20table%20tag%3B--',
  'a'.repeat(300),
  'a%2F'.repeat(100),
  'a'.repeat(600),
];

test('a parameter of a path that is no name', async () => {
  for (const operation of operations) {
    const { params, body } = await sampleOf(operation);
    for (const parameter of Object.keys(params)) {
      for (const hostile of HOSTILE) {
        const marked = filled(operation, { ...params, [parameter]: 'MARK' }).replace('MARK', hostile);
        const answer = await api(server, 'admin', operation.method, marked, body === undefined ? {} : { body });
        isRefused(answer, `${operation.id} ${parameter}=${hostile}`);
        assert.ok(!answer.text().includes('drop table'));
      }
    }
  }
});

test('other spellings of a path lead nowhere, or to the same decision', async () => {
  const name = 'secret/spelled';
  await freshRepository(server, name);
  for (const target of [
    '/%61pi/v1/repositories',
    '/API/v1/repositories',
    '/api//v1/repositories',
    '/api/v1//repositories',
    '/api/v1/./repositories',
    '/api/v1/x/../repositories',
    '/api/v1/repositories;a=b',
    '/api/v1/Repositories',
    '/api/v2/repositories',
    '/api',
    '/api/',
    `/api/v1/repositories/${name}`,
  ]) {
    const answer = await ask(server, 'GET', target, { headers: as('reader') });
    assert.equal(answer.status, 404, target);
  }
  expectProblem(await ask(server, 'GET', '/api/v1/repositories/', { headers: as('reader') }), 400, 'invalid');
  const spelled = await ask(server, 'GET', '/api/v1/repositories/secret%2fspelled', { headers: as('reader') });
  expectProblem(spelled, 404, 'not_found');
  for (const persona of ['reader', 'anonymous'] as const) {
    const answer = await ask(server, 'GET', '/api/v1/%72epositories/%73ecret%2Fspelled', { headers: as(persona) });
    assert.equal(answer.status, persona === 'reader' ? 404 : 401);
  }
});

test('a query that the route does not know', async () => {
  for (const operation of operations) {
    const { params, body } = await sampleOf(operation);
    const path = filled(operation, params);
    for (const query of [
      '?x=1',
      '?__proto__=1',
      '?constructor=1',
      '?limit=1&limit=2',
      '?a=%zz',
      '?a=%00',
      '?%0d%0a=1',
      `?${'a&'.repeat(60)}`,
      `?x=${'y'.repeat(9000)}`,
    ]) {
      const answer = await api(
        server,
        'admin',
        operation.method,
        `${path}${query}`,
        body === undefined ? {} : { body },
      );
      isRefused(answer, `${operation.id} ${query.slice(0, 30)}`);
    }
  }
});

test('limits and cursors of lists', async () => {
  const lists = operations.filter(({ isList }) => isList);
  assert.ok(lists.length >= 6);
  const cursors = new Map<string, string>();
  for (const operation of lists) {
    const { params } = await sampleOf(operation);
    const path = filled(operation, params);
    for (const limit of ['0', '-1', '1001', '1.5', '1e2', 'x', '', '99999999999999999999', '0x10', ' 1']) {
      isRefused(
        await api(server, 'admin', 'GET', `${path}?limit=${encodeURIComponent(limit)}`),
        `${operation.id} limit=${limit}`,
      );
    }
    for (const after of [
      '',
      'x',
      'AAAA',
      Buffer.from('"team/a"').toString('base64url'),
      Buffer.from(`${'\0'.repeat(9)}"team/a"`).toString('base64url'),
      Buffer.from(`${'\0'.repeat(9)}{"__proto__":1}`).toString('base64url'),
      "' or 1=1--",
      'a'.repeat(1025),
    ]) {
      isRefused(
        await api(server, 'admin', 'GET', `${path}?after=${encodeURIComponent(after)}`),
        `${operation.id} after=${after}`,
      );
    }
    const page = await api(server, 'admin', 'GET', `${path}?limit=1`);
    assert.equal(page.status, 200);
    const { next } = page.json() as { next?: string };
    if (next !== undefined) cursors.set(operation.id, next);
  }
  const given = cursors.get('listRepositories');
  assert.ok(given !== undefined, 'a list of repositories has a second page by now');
  // One character more, less, or another one; and of another list.
  for (const forged of [`${given}A`, given.slice(0, -1), `A${given.slice(1)}`, given.toLowerCase()]) {
    if (forged !== given) isRefused(await api(server, 'admin', 'GET', `/repositories?after=${forged}`), forged);
  }
  isRefused(await api(server, 'admin', 'GET', `/holds?after=${given}`), 'a cursor of another list');
  // Of the same route at another repository.
  const [one, two] = ['team/page/one', 'team/page/two'];
  for (const name of [one, two]) for (const tag of ['a', 'b']) await freshRepository(server, name, tag);
  const first = (await api(server, 'admin', 'GET', `${at(one)}/tags?limit=1`)).json() as { next: string };
  assert.equal((await api(server, 'admin', 'GET', `${at(one)}/tags?after=${first.next}`)).status, 200);
  expectProblem(await api(server, 'admin', 'GET', `${at(two)}/tags?after=${first.next}`), 400, 'invalid');
});

test('a body that is none, too large, of another type, or has more than it should', async () => {
  for (const operation of operations.filter(({ method }) => method !== 'GET')) {
    const { params, body } = await sampleOf(operation);
    const path = filled(operation, params);
    const send = (given: unknown, type = 'application/json') =>
      api(server, 'admin', operation.method, path, { body: given, headers: { 'content-type': type } });
    const large = JSON.stringify({ ...body, reason: 'x'.repeat(70_000) });
    expectProblem(await send(large), 413, 'too_large');
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/xml',
      'nonsense',
      'application/jsonp',
      'text/plain; application/json',
    ]) {
      expectProblem(await send(JSON.stringify(body ?? {}), type), 415, 'unsupported_media_type');
    }
    for (const wrong of [
      'null',
      '1',
      '"text"',
      '[]',
      'true',
      '{',
      '{"a":1}{"b":2}',
      '\u0000',
      '\ufeff{}',
      '{"__proto__":{"admin":true}}',
      '{"constructor":1}',
      `{"to":${'['.repeat(20_000)}`,
      '[['.repeat(10_000),
      JSON.stringify({ ...body, unknown: 1 }),
      JSON.stringify({ ...body, reason: 7, to: {}, expect: [], tag: 5, digest: 'x', until: 'soon' }),
      Buffer.from([0x22, 0xff, 0xfe, 0x22]),
    ]) {
      isRefused(await send(wrong), `${operation.id} ${String(wrong).slice(0, 40)}`);
    }
  }
});

test('fields that are not as they should be', async () => {
  const name = 'team/fields';
  const digest = await freshRepository(server, name);
  const holds = (body: object) => api(server, 'admin', 'POST', at(name, '/holds'), { body });
  const cases: readonly [object, string][] = [
    [{}, 'body.reason'],
    [{ reason: '' }, 'body.reason'],
    [{ reason: '   ' }, 'body.reason'],
    [{ reason: 'x'.repeat(1_001) }, 'body.reason'],
    [{ reason: 'x', tag: '.bad' }, 'body.tag'],
    [{ reason: 'x', digest: `sha256:${'A'.repeat(64)}` }, 'body.digest'],
    [{ reason: 'x', tag: 'v1', digest }, 'body.digest'],
    [{ reason: 'x', until: '2001-01-01T00:00:00Z' }, 'body.until'],
    [{ reason: 'x', until: 'tomorrow' }, 'body.until'],
    [{ reason: 'x', until: '2099-13-45T00:00:00Z' }, 'body.until'],
  ];
  for (const [body, where] of cases) {
    const problem = expectProblem(await holds(body), 400, 'invalid') as { flaws?: { at: string }[] };
    assert.ok(
      problem.flaws?.some((flaw) => flaw.at === where),
      `${JSON.stringify(body)}: ${JSON.stringify(problem)}`,
    );
  }
  assert.equal((await holds({ reason: 'x'.repeat(1_000), until: '2099-01-01T00:00:00+02:00' })).status, 201);
  for (const body of [{}, { to: 'latest' }, { to: -1 }, { to: 1.5 }, { to: 2 ** 60 }, { to: digest, expect: 'x' }]) {
    expectProblem(await api(server, 'admin', 'POST', at(name, '/tags/v1/rollback'), { body }), 400, 'invalid');
  }
  for (const headers of [
    { 'if-match': digest },
    { 'if-match': '*' },
    { 'if-match': `"${digest}", "${digest}"` },
    { 'if-none-match': `"${digest}"` },
    { 'if-match': `"${digest}"`, 'if-none-match': '*' },
  ]) {
    const answer = await api(server, 'admin', 'POST', at(name, '/tags/v1/rollback'), {
      body: { to: digest },
      headers: headers as Record<string, string>,
    });
    expectProblem(answer, 400, 'invalid');
  }
});

test('a write that a page of another origin sends is refused; one’s own and programs pass', async () => {
  for (const operation of operations.filter(({ method }) => method !== 'GET')) {
    const { params, body } = await sampleOf(operation);
    const send = (headers: Record<string, string>) =>
      api(
        server,
        'admin',
        operation.method,
        filled(operation, params),
        body === undefined ? { headers } : { body, headers },
      );
    for (const headers of [
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { origin: `https://127.0.0.1:${server.port}` },
      { origin: `http://127.0.0.1.evil.example:${server.port}` },
      { origin: 'http://127.0.0.1' },
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site' },
      { origin: server.url, 'sec-fetch-site': 'cross-site' },
      { cookie: 'session=1' },
    ] as Record<string, string>[]) {
      expectProblem(await send(headers), 403, 'forbidden');
    }
    const own = await send({ host: `127.0.0.1:${server.port}`, origin: server.url, 'sec-fetch-site': 'same-origin' });
    assert.equal(own.status, operation.status, `${operation.id}: ${own.text()}`);
  }
});

test('methods that a path does not have, and framing', async () => {
  for (const { path } of operations) {
    const known = operations.filter((one) => one.path === path).map(({ method }) => method);
    const concrete = path.replace('{digest}', digestOf('x')).replace(/\{\w+\}/g, 'x');
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']) {
      if (known.includes(method)) continue;
      const answer = await api(server, 'admin', method, concrete);
      expectProblem(answer, 405, 'method_not_allowed');
      assert.equal(
        known.every((one) => answer.header('allow').split(', ').includes(one)),
        true,
      );
    }
  }
  const traced = await rawAsk(server, head('TRACE', '/api/v1/repositories'));
  assert.ok(traced.status >= 400 && traced.status < 500);
  const headed = await api(server, 'admin', 'HEAD', '/repositories');
  assert.equal(headed.status, 200);
  assert.equal(headed.body.length, 0);
});

test('after all this the server is well, and nothing was made up', async () => {
  const repositories = (await api(server, 'admin', 'GET', '/repositories?limit=1000')).json() as {
    items: { name: string }[];
  };
  assert.ok(repositories.items.every(({ name }) => /^(team|secret)\//.test(name)));
  assert.doesNotMatch(server.output(), /"level":"error"/);
});
