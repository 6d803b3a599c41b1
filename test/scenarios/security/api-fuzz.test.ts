/** Seeded nonsense against the REST API (threats.md 36 and 59): no error of ours, nothing of the inside, no change. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { choices, runSeed } from '../../support/random.ts';
import { freshRepository, SAMPLES } from '../api/samples.ts';
import { api, as, at, filled, openApi, operationsOf } from '../api/support.ts';
import { eventually, Wire } from '../support/wire.ts';

const REQUESTS = 1_500;
/** Bytes that mean something to one of the readers on the way: HTTP, URL, JSON, SQL, a glob, a log. */
const PIECES = [
  ...[
    '/',
    '//',
    '%2f',
    '%2F',
    '%252f',
    '..',
    '.',
    '%2e',
    '%00',
    '%0d%0a',
    '%ff',
    '%',
    '%zz',
    '\\',
    '%5c',
    ';',
    ':',
    '@',
  ],
  ...['?', '&', '=', '#', '+', "'", '"', '`', '--', '/*', '*', '%25', '_', "' or '1'='1", ') or 1=1--', '$1', '$(id)'],
  ...['{', '}', '[', ']', ',', 'null', 'true', '-1', '1e999', '9007199254740993', '"\\ud800"', '\\u0000', '__proto__'],
  ...[
    'constructor',
    'limit=',
    'after=',
    'sort=name',
    'order=desc',
    'filter=actor',
    'fields=*',
    'n=1',
    'sha256:',
    'latest',
  ],
  ...['é', '💩', '\u202e', 'a'.repeat(300), '\t', 'team/x', 'secret/x', 'repositories', 'tags', 'holds', 'deleted'],
];

const server = await openApi();
const operations = await operationsOf(server);

it('T36 whatever a path, a query or a body is made of: refused in form or done, never an error of ours', async () => {
  const seed = runSeed();
  const { below, chance, pick } = choices(seed);
  await freshRepository(server, 'secret/x');
  await freshRepository(server, 'team/x');
  const targets: { method: string; path: string; body: string }[] = [];
  for (const operation of operations) {
    const { params, body } = await SAMPLES[operation.id]!(server, `team/fuzz/${operation.id.toLowerCase()}`);
    targets.push({ method: operation.method, path: filled(operation, params), body: JSON.stringify(body ?? {}) });
  }
  const spoiled = (text: string): string => {
    let result = text;
    for (let i = below(4); i >= 0; i--) {
      const from = below(result.length + 1);
      result = result.slice(0, from) + (pick(PIECES) ?? '') + result.slice(from + (chance(50) ? 0 : below(8)));
    }
    return result;
  };
  // What HTTP itself does not allow in a request line is another case's (T1); here the line arrives.
  const line = (text: string): string =>
    Buffer.from(text.replace(/[\u0000-\u0020\u007f]/g, '%20'), 'utf8').toString('latin1');
  let [wire, done, refused] = [await Wire.connect(server), 0, 0];
  try {
    for (let i = 0; i < REQUESTS; i++) {
      const target = pick(targets)!;
      const path = chance(10)
        ? target.path
        : chance(70)
          ? spoiled(target.path)
          : `${target.path}?${spoiled('limit=2&after=x')}`;
      const body = target.method === 'GET' || chance(10) ? '' : chance(60) ? spoiled(target.body) : target.body;
      const method = chance(5) ? pick(['PUT', 'PATCH', 'OPTIONS', 'QUERY', 'HEAD'])! : target.method;
      const headers = [
        `Authorization: ${as(chance(80) ? 'reader' : 'anonymous').authorization ?? 'x'}`,
        ...(chance(10) ? [`If-Match: ${line(spoiled('"sha256:0"'))}`] : []),
        ...(body === '' ? [] : ['Content-Type: application/json', `Content-Length: ${Buffer.byteLength(body)}`]),
      ];
      const text = `${method} ${line(`/api/v1${path}`)} HTTP/1.1\r\nHost: x\r\n${headers.join('\r\n')}\r\n\r\n`;
      await wire.send(Buffer.concat([Buffer.from(text, 'latin1'), Buffer.from(body)]));
      const answer = await wire.answer(method);
      const what = `seed ${seed}, request ${i}: ${JSON.stringify(text.slice(0, 400))} gives ${answer.status} ${answer.text().slice(0, 300)}`;
      assert.ok(answer.status >= 200 && answer.status < 500 && Math.floor(answer.status / 100) !== 3, what);
      assert.doesNotMatch(
        answer.text(),
        /sqlite|SELECT |select |\.ts:\d+|node:internal|node_modules|SyntaxError/,
        what,
      );
      // Nothing of the hidden repository comes back, but what was asked for may be repeated.
      if (answer.status < 300 && !path.includes('openapi')) {
        done++;
        assert.doesNotMatch(answer.text(), /secret\/x/, what);
      } else refused++;
      for (const [name, value] of answer.rawHeaders) assert.match(value, /^[\x20-\x7e]*$/, `${name}: ${what}`);
      if (answer.header('connection') === 'close') {
        wire.destroy();
        wire = await Wire.connect(server);
      }
    }
  } finally {
    wire.destroy();
  }
  assert.ok(done > REQUESTS / 100 && refused > REQUESTS / 4, `seed ${seed}: ${done} done, ${refused} refused`);
  // A reader changed nothing, and the server is well.
  for (const name of ['secret/x', 'team/x']) {
    const tags = await api(server, 'admin', 'GET', at(name, '/tags'));
    assert.deepEqual(
      (tags.json() as { items: { name: string }[] }).items.map((tag) => tag.name),
      ['v1'],
    );
  }
  await eventually('the log is written', () => (server.output().includes('team/fuzz') ? true : undefined));
  assert.doesNotMatch(server.output(), /"level":"error"/, `seed ${seed}`);
});
