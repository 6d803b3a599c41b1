/** Signing in: which challenges are answered, with what, to whom, how often. */
import assert from 'node:assert/strict';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Clock, systemClock } from '../kit/clock.ts';
import type { Registry } from '../registry/registry.ts';
import { blob, callAs, pullBlob, refused, repo, tag } from '../registry/samples.testing.ts';
import { parseChallenges } from './challenge.ts';
import { retryAfterSeconds } from './errors.ts';
import { upstreamRegistry } from './registry.ts';
import { realmHostsOf } from './settings.ts';
import { type Lying, lying, openClient } from './upstream.testing.ts';

const ann = callAs('ann');
const a = repo('team/app');
const b = repo('team/other');
const sample = blob('hello');
const credentials = { username: 'robot', password: 'p4ss:word' };
const BASIC = `Basic ${Buffer.from('robot:p4ss:word').toString('base64')}`;

function send(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string | string[]> = {},
): void {
  const bytes = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
  response.writeHead(status, { 'content-length': String(bytes.length), ...headers });
  response.end(bytes);
}

interface Service {
  readonly given?: object;
  readonly status?: number;
  readonly challenge?: string | string[];
}

/** A registry whose blobs are behind the tokens of a service on another port. */
async function pair(service: Service = {}): Promise<{ registry: Lying; tokens: Lying } & AsyncDisposable> {
  let issued = 0;
  const tokens = await lying((_request, response) => {
    issued++;
    send(response, service.status ?? 200, service.given ?? { token: `t${issued}`, expires_in: 300 });
  });
  const registry = await lying((request, response) => {
    if (/^(Bearer t\d+|Basic cm9ib3Q)/.test(request.headers.authorization ?? '')) {
      send(response, 200, sample.bytes);
      return;
    }
    const challenge =
      service.challenge ??
      `Bearer realm="${tokens.origin}/token",service="the registry",scope="repository:team/app:pull"`;
    send(response, 401, {}, { 'www-authenticate': challenge });
  });
  return {
    registry,
    tokens,
    async [Symbol.asyncDispose]() {
      await registry[Symbol.asyncDispose]();
      await tokens[Symbol.asyncDispose]();
    },
  };
}

async function reader(
  url: string,
  more: { credentials?: typeof credentials; realmHosts?: readonly string[]; clock?: Clock },
  work: (from: Registry) => Promise<void>,
): Promise<void> {
  const client = openClient();
  const { clock = systemClock, ...settings } = more;
  try {
    await work(upstreamRegistry({ url, ...settings }, { client, clock }) as unknown as Registry);
  } finally {
    await client.close();
  }
}

const authorizations = (asked: readonly IncomingMessage[]): (string | undefined)[] =>
  asked.map(({ headers }) => headers.authorization);

test('a token is fetched once, kept until it expires, and shared by all who wait for it', async () => {
  await using servers = await pair();
  const { registry, tokens } = servers;
  let now = 0;
  const clock: Clock = { ...systemClock, monotonic: () => now };
  const own = { credentials, realmHosts: [tokens.host], clock };
  await reader(registry.origin, own, async (from) => {
    const read = () => pullBlob(from, ann, a, sample.digest);
    await Promise.all(Array.from({ length: 8 }, read));
    assert.equal(tokens.asked.length, 1);
    await read();
    assert.equal(tokens.asked.length, 1);
    const asked = new URL(tokens.asked[0]!.url!, tokens.origin);
    assert.equal(asked.pathname, '/token');
    assert.deepEqual(
      [...asked.searchParams],
      [
        ['scope', 'repository:team/app:pull'],
        ['service', 'the registry'],
        ['account', 'robot'],
      ],
    );
    assert.equal(tokens.asked[0]!.headers.authorization, BASIC);
    assert.ok(!authorizations(registry.asked).includes(BASIC), 'the password is for the token service');
    now = 299_000;
    await read();
    assert.equal(tokens.asked.length, 2, 'a new one before it expires');
  });
});

test('a token that the registry does not take any more is replaced once', async () => {
  const tokens: string[] = [];
  await using server = await lying((request, response) => {
    if (request.url?.startsWith('/token')) {
      tokens.push(`t${tokens.length + 1}`);
      send(response, 200, { access_token: tokens.at(-1) });
    } else if (request.headers.authorization === 'Bearer t2') send(response, 200, sample.bytes);
    else send(response, 401, {}, { 'www-authenticate': `Bearer realm="http://${request.headers.host}/token"` });
  });
  await reader(server.origin, { credentials }, async (from) => {
    await refused(from.getBlob(ann, a, sample.digest), 'DENIED');
    assert.deepEqual(await pullBlob(from, ann, a, sample.digest), sample.bytes);
    assert.equal(tokens.length, 2);
  });
});

test('nobody has a token too: without credentials it is asked for without', async () => {
  await using servers = await pair();
  await reader(servers.registry.origin, {}, async (from) => {
    assert.deepEqual(await pullBlob(from, ann, a, sample.digest), sample.bytes);
    assert.deepEqual(authorizations(servers.tokens.asked), [undefined]);
  });
});

test('credentials are not sent to a token service that is not the registry’s and was not configured', async () => {
  await using servers = await pair();
  const { registry, tokens } = servers;
  for (const realmHosts of [[], ['127.0.0.1'], ['127.0.0.1:1'], [`127.0.0.1.${tokens.host}`]]) {
    await reader(registry.origin, { credentials, realmHosts }, async (from) => {
      const error = await refused(from.getBlob(ann, a, sample.digest), 'DENIED');
      assert.match(error.message, /not configured/);
    });
  }
  assert.equal(tokens.asked.length, 0);
  assert.ok(authorizations(registry.asked).every((header) => header === undefined));
});

test('the realms of Docker Hub are known, others’ are their own', () => {
  const hosts = (url: string, realmHosts?: string[]) => [
    ...realmHostsOf(new URL(url), { url, ...(realmHosts === undefined ? {} : { realmHosts }) }),
  ];
  assert.deepEqual(hosts('https://registry-1.docker.io'), ['registry-1.docker.io', 'auth.docker.io']);
  assert.deepEqual(hosts('https://registry-1.docker.io.evil.example'), ['registry-1.docker.io.evil.example']);
  assert.deepEqual(hosts('https://registry-1.docker.io:444'), ['registry-1.docker.io:444']);
  assert.deepEqual(hosts('https://r.example:5000', ['auth.example']), ['r.example:5000', 'auth.example']);
});

test('realms that cannot be asked are refused', async () => {
  for (const realm of [
    '',
    'not a url',
    '/token',
    'file:///etc/passwd',
    'unix:/x',
    'http://user:pw@127.0.0.1/token',
    'ftp://127.0.0.1/',
  ]) {
    await using servers = await pair({ challenge: `Bearer realm="${realm}",service="s"` });
    await reader(servers.registry.origin, {}, async (from) => {
      await refused(from.getBlob(ann, a, sample.digest), 'UNAVAILABLE', 502);
    });
  }
});

test('tokens that lie are refused', async () => {
  const lies: object[] = [
    {},
    { token: '' },
    { token: 7 },
    { token: 'a b' },
    { token: 'a\r\nx: y' },
    { token: 'x'.repeat(20_000) },
    [],
  ];
  for (const given of lies) {
    await using servers = await pair({ given });
    await reader(servers.registry.origin, {}, async (from) => {
      await refused(from.getBlob(ann, a, sample.digest), 'UNAVAILABLE', 502);
    });
  }
  for (const [status, code] of [
    [401, 'DENIED'],
    [403, 'DENIED'],
    [404, 'DENIED'],
    [429, 'TOOMANYREQUESTS'],
    [500, 'UNAVAILABLE'],
    [302, 'UNAVAILABLE'],
  ] as const) {
    await using servers = await pair({ status });
    await reader(servers.registry.origin, { credentials, realmHosts: [servers.tokens.host] }, async (from) => {
      const error = await refused(from.getBlob(ann, a, sample.digest), code);
      assert.ok(!error.message.includes('p4ss') && !error.message.includes('account='), error.message);
    });
  }
});

test('Basic is answered at the registry itself, and remembered', async () => {
  await using servers = await pair({ challenge: 'Basic realm="r"' });
  const { registry } = servers;
  await reader(registry.origin, { credentials }, async (from) => {
    await pullBlob(from, ann, a, sample.digest);
    await pullBlob(from, ann, b, sample.digest);
    assert.deepEqual(authorizations(registry.asked), [undefined, BASIC, BASIC]);
  });
  await reader(registry.origin, {}, async (from) => {
    await refused(from.getBlob(ann, a, sample.digest), 'DENIED');
  });
});

test('wrong credentials are sent once for each request, never in a loop', async () => {
  await using server = await lying((_request, response) =>
    send(response, 401, {}, { 'www-authenticate': 'Basic realm="r"' }),
  );
  await reader(server.origin, { credentials }, async (from) => {
    await refused(from.getBlob(ann, a, sample.digest), 'DENIED');
    await refused(from.getManifest(ann, a, { tag: tag('v1') }), 'DENIED');
    assert.equal(server.asked.length, 3);
  });
});

test('a 401 from where a redirect led is not answered, and gets neither password nor token', async () => {
  await using elsewhere = await lying((request, response) => {
    send(
      response,
      401,
      {},
      { 'www-authenticate': [`Basic realm="r"`, `Bearer realm="http://${request.headers.host}/token"`] },
    );
  });
  await using server = await lying((request, response) => {
    if (request.headers.authorization === undefined) send(response, 401, {}, { 'www-authenticate': 'Basic realm="r"' });
    else send(response, 307, {}, { location: `${elsewhere.origin}/signed?secret=1` });
  });
  await reader(server.origin, { credentials }, async (from) => {
    const error = await refused(from.getBlob(ann, a, sample.digest), 'DENIED');
    assert.ok(!error.message.includes('secret'));
  });
  assert.equal(elsewhere.asked.length, 1);
  assert.equal(elsewhere.asked[0]!.headers.authorization, undefined);
});

test('challenges as registries write them', () => {
  const parse = (...values: string[]) =>
    parseChallenges(values).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
  assert.deepEqual(parse('Bearer realm="https://a/t?x=1,2",service="a b",scope="repository:a/b:pull,push"'), [
    ['bearer', { realm: 'https://a/t?x=1,2', service: 'a b', scope: 'repository:a/b:pull,push' }],
  ]);
  assert.deepEqual(parse('BEARER Realm = "a\\"b" , Service=plain', 'Basic realm="x"'), [
    ['bearer', { realm: 'a"b', service: 'plain' }],
    ['basic', { realm: 'x' }],
  ]);
  assert.deepEqual(parse('Negotiate, Basic realm="x", Bearer realm="y"'), [
    ['negotiate', {}],
    ['basic', { realm: 'x' }],
    ['bearer', { realm: 'y' }],
  ]);
  assert.deepEqual(parse('Bearer realm="one",realm="two"'), [['bearer', { realm: 'one' }]]);
  assert.deepEqual(parse('', ',,', '='), []);
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: fc.constantFrom(...'aB =",\\;\t\u00e9') })),
      (values) => void parseChallenges(values),
    ),
  );
});

test('Retry-After in seconds and as a date, bounded', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  assert.equal(retryAfterSeconds('30', now), 30);
  assert.equal(retryAfterSeconds('0', now), 1);
  assert.equal(retryAfterSeconds('99999999', now), 86_400);
  assert.equal(retryAfterSeconds('Thu, 01 Jan 2026 00:01:00 GMT', now), 60);
  assert.equal(retryAfterSeconds('Thu, 01 Jan 2015 00:01:00 GMT', now), 1);
  assert.equal(retryAfterSeconds('soon', now), undefined);
  assert.equal(retryAfterSeconds(undefined, now), undefined);
});
