/** The base of the REST API over a small application: errors, pages, what is decided first, and what goes out. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import * as z from 'zod';
import { ANONYMOUS } from '../access/principals.ts';
import type { Log } from '../kit/log.ts';
import { FaultError, RegistryError } from '../oci/error.ts';
import type { Decision, Principal } from '../registry/call.ts';
import { openApplication } from '../server/application.ts';
import { openListener } from '../server/http.ts';
import { openapiDocument } from './openapi.ts';
import { cursorOf, positionOf } from './page.ts';
import { apiRoutes } from './plugin.ts';
import { ApiError, asApiError, PROBLEMS, problemOf } from './problem.ts';
import { type AnyDeclaration, type ApiRoute, type Declaration, declare, serve } from './route.ts';
import { OF_REPOSITORY } from './words.ts';

const ANN: Principal = { kind: 'user', id: 'user:1', name: 'ann' };
const lines: { readonly level: string; readonly text: string }[] = [];
const line =
  (level: string): Log['info'] =>
  (text, facts) => {
    lines.push({
      level,
      text: `${text} ${JSON.stringify(facts, (_key, value) => (value instanceof Error ? value.message : value))}`,
    });
  };
const log = { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') } as unknown as Log;

const ANYONE = { on: 'anyone' } as const;
const throwing = (operation: string, error: () => unknown): ApiRoute =>
  serve(
    declare({ operation, method: 'GET', path: `/throws/${operation}`, tag: 't', summary: 's', right: ANYONE }),
    async () => {
      throw error();
    },
  );

const list = declare({
  operation: 'list',
  method: 'GET',
  path: '/things/{name}',
  tag: 't',
  summary: 's',
  right: { on: 'repository', action: 'repository.pull' },
  params: OF_REPOSITORY,
  query: z.strictObject({
    kind: z.enum(['a', 'b']).optional(),
    deep: z.boolean().default(false),
    size: z.int().optional(),
  }),
  answer: z.object({ n: z.int() }),
  position: z.int(),
});
const make = declare({
  operation: 'make',
  method: 'POST',
  path: '/things',
  tag: 't',
  summary: 's',
  right: ANYONE,
  body: z.strictObject({ text: z.string() }),
  bodyBytes: 100,
  status: 201,
  answer: z.object({ text: z.string() }),
});
const broken = declare({
  operation: 'broken',
  method: 'GET',
  path: '/broken',
  tag: 't',
  summary: 's',
  right: ANYONE,
  answer: z.object({ n: z.int() }),
});

const asked: { query?: unknown; page?: unknown } = {};
const routes: ApiRoute[] = [
  serve(list, async ({ query, page }) => {
    Object.assign(asked, { query, page });
    const from = page.after ?? 0;
    const items = Array.from({ length: page.limit }, (_, index) => ({ n: from + index + 1, secret: 'x' }));
    return { items, next: from + page.limit < 10 ? from + page.limit : undefined };
  }),
  serve(make, async ({ body }) => ({ text: body.text, passwordHash: 'secret' })),
  serve(broken, async () => ({ n: 'secret words' }) as never),
  throwing('bug', () => new TypeError('at /somewhere/secret.ts:1:2')),
  throwing('fault', () => new FaultError('unavailable', 'cannot reach db.internal:5432', { retryAfterSeconds: 7 })),
  throwing('full', () => new RegistryError('UNAVAILABLE', 'Busy.', { retryAfterSeconds: 0.2 })),
  throwing('conflict', () => new ApiError('conflict', 'It is so.', { detail: { tag: 'v1' } })),
  throwing('limited', () => new RegistryError('TOOMANYREQUESTS', 'Slowly.')),
];

const plugin = apiRoutes({
  routes,
  authenticator: { authenticate: ({ authorization }) => (authorization === undefined ? ANONYMOUS : ANN) },
  access: {
    may: (call): Decision =>
      call.principal === ANN ? { allowed: true } : { allowed: false, visible: false, reason: 'no_right' },
    visible: async (_call, names) => new Set(names),
    visibility: async () => 'all',
  },
  peerOf: () => ({ address: '192.0.2.1', host: 'registry.test', scheme: 'http' }),
  challenge: (_request, { scope }) => [`Bearer scope="${scope}"`, 'Basic realm="x"'],
  publicUrl: 'https://public.test/',
  log,
});
const listener = await openListener({
  routes: new Map(),
  application: { serves: () => true, open: () => openApplication([plugin], log) },
  limits: {
    connections: 100,
    connectionsPerAddress: 100,
    headerCount: 100,
    headerBytes: 16_384,
    headersSeconds: 20,
    keepAliveSeconds: 5,
    handshakeSeconds: 5,
    http2Streams: 10,
    http2StreamWindowBytes: 65_536,
    http2SessionWindowBytes: 65_536,
  },
  log,
});
const { port } = await listener.listen({ host: '127.0.0.1', port: 0 });
after(() => listener.stop(0));
const ask = (path: string, options: RequestInit = {}): Promise<Response> =>
  fetch(`http://127.0.0.1:${port}/api/v1${path}`, options);
const AUTH = { headers: { authorization: 'Basic eDp5' } };

test('errors become problems: causes, hosts and paths stay inside', async () => {
  const cases: readonly [string, number, string, string | null][] = [
    ['bug', 500, 'unknown', null],
    ['fault', 503, 'unavailable', '7'],
    ['full', 503, 'unavailable', '1'],
    ['conflict', 409, 'conflict', null],
    ['limited', 429, 'too_many_requests', '2'],
  ];
  for (const [name, status, code, retry] of cases) {
    const answer = await ask(`/throws/${name}`);
    const text = await answer.text();
    assert.deepEqual([answer.status, answer.headers.get('retry-after')], [status, retry], name);
    assert.equal(answer.headers.get('content-type'), 'application/problem+json; charset=utf-8');
    const problem = JSON.parse(text) as Record<string, unknown>;
    assert.deepEqual([problem.status, problem.code, problem.type], [status, code, 'about:blank']);
    assert.equal(typeof problem.requestId, 'string');
    assert.doesNotMatch(text, /secret|internal|5432/);
  }
  assert.ok(lines.some(({ level, text }) => level === 'error' && text.includes('secret.ts')));
  assert.ok(lines.some(({ level, text }) => level === 'warn' && text.includes('db.internal')));
});

test('an answer that is not as declared is an error, and nothing of it goes out', async () => {
  const answer = await ask('/broken');
  assert.equal(answer.status, 500);
  assert.doesNotMatch(await answer.text(), /secret words/);
});

test('only what the schema has goes out, and only what it has comes in', async () => {
  const made = await ask('/things', {
    method: 'POST',
    headers: { 'content-type': 'application/json; charset=utf-8' },
    body: '{"text":"a"}',
  });
  assert.deepEqual([made.status, await made.json()], [201, { text: 'a' }]);
  const large = await ask('/things', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ text: 'x'.repeat(100) }),
  });
  assert.equal(large.status, 413);
  const missing = await ask('/things', { method: 'POST' });
  assert.equal(missing.status, 400);
});

test('pages: limit, cursor and Link keep what else was asked', async () => {
  const first = await ask('/things/a%2Fb?limit=4&kind=b&deep=true&size=3', AUTH);
  assert.deepEqual(asked, { query: { kind: 'b', deep: true, size: 3, limit: 4 }, page: { limit: 4 } });
  const body = (await first.json()) as { items: object[]; next: string };
  assert.deepEqual(
    body.items,
    [1, 2, 3, 4].map((n) => ({ n })),
  );
  const link = /^<([^>]+)>; rel="next"$/.exec(first.headers.get('link') ?? '')?.[1] ?? '';
  assert.equal(link, `/api/v1/things/a%2Fb?kind=b&deep=true&size=3&limit=4&after=${body.next}`);
  const second = await ask(link.slice('/api/v1'.length), AUTH);
  assert.deepEqual(
    ((await second.json()) as typeof body).items,
    [5, 6, 7, 8].map((n) => ({ n })),
  );
  assert.deepEqual(asked.page, { limit: 4, after: 4 });
  const last = await ask(`/things/a%2Fb?limit=10`, AUTH);
  assert.equal(last.headers.get('link'), null);
  assert.equal(((await last.json()) as typeof body).next, undefined);
});

test('what is decided first: path, caller, query', async () => {
  assert.equal((await ask('/things/A%00?x=1')).status, 400);
  const anonymous = await ask('/things/a?x=1');
  assert.equal(anonymous.status, 401);
  assert.equal(anonymous.headers.get('www-authenticate'), 'Bearer scope="repository:a:pull", Basic realm="x"');
  assert.equal((await ask('/things/a?x=1', AUTH)).status, 400);
  assert.equal((await ask('/things/a', AUTH)).status, 200);
});

test('the origin of the configured address is one’s own, that of the Host too, others are not', async () => {
  const send = async (origin: string): Promise<number> =>
    (
      await ask('/things', {
        method: 'POST',
        headers: { 'content-type': 'application/json', origin },
        body: '{"text":"a"}',
      })
    ).status;
  assert.equal(await send('https://public.test'), 201);
  assert.equal(await send('http://registry.test'), 201);
  assert.equal(await send('http://REGISTRY.test'), 201);
  for (const origin of [
    'http://public.test',
    'https://public.test.evil.test',
    'https://evil.test/https://public.test',
    'null',
    '',
  ])
    assert.equal(await send(origin), 403, origin);
});

test('a cursor is of one list, one path and one position', () => {
  const declaration = list as unknown as Declaration;
  const cursor = cursorOf(declaration, { name: 'a' }, 7);
  assert.equal(positionOf(declaration, { name: 'a' }, cursor), 7);
  const bad = (...args: Parameters<typeof positionOf>): void =>
    assert.throws(
      () => positionOf(...args),
      (error: unknown) => error instanceof ApiError && error.code === 'invalid',
    );
  bad(declaration, { name: 'b' }, cursor);
  bad({ ...declaration, operation: 'other' }, { name: 'a' }, cursor);
  bad(declaration, { name: 'a' }, cursorOf(declaration, { name: 'a' }, 'x'));
  bad(declaration, { name: 'a' }, `${cursor}=`);
  bad(declaration, { name: 'a' }, '');
});

test('every code has its status; an error without words of its own has no detail', () => {
  for (const code of Object.keys(PROBLEMS) as (keyof typeof PROBLEMS)[]) {
    const { title, status } = PROBLEMS[code];
    const problem = problemOf(new ApiError(code, title), 'r');
    assert.deepEqual(problem, { type: 'about:blank', title, status, code, requestId: 'r' });
  }
  assert.equal(asApiError(new RegistryError('DENIED', 'x', { status: 412 })).code, 'precondition_failed');
  assert.equal(asApiError(undefined).code, 'unknown');
  assert.equal(asApiError(Object.assign(new Error('x'), { statusCode: 418 })).code, 'invalid');
});

test('two routes of one name or path are a mistake', () => {
  const other = { ...make, operation: 'other' } as AnyDeclaration;
  assert.throws(() => openapiDocument([make, make]), /two routes/);
  assert.throws(() => openapiDocument([make, other]), /two routes/);
  assert.throws(() => openapiDocument([make, { ...make, path: '/else' } as AnyDeclaration]), /two routes/);
});
