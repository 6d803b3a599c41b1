import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { authority } from '../server/certificates.testing.ts';
import { parseCommandLine, UsageError } from './command-line.ts';

const folder = mkdtempSync(join(tmpdir(), 'longshore-cli-'));
const children = new Set<ChildProcess>();
after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});
const entry = join(dirname(import.meta.dirname), 'main.ts');

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function start(
  args: readonly string[],
  env: Record<string, string> = {},
): { child: ChildProcess; ended: Promise<Ended>; said: () => string; complained: () => string } {
  const clean = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(LONGSHORE|NODE_TEST)/.test(name)),
  );
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', entry, ...args], {
    // Most of a start from source is compiling it: once for all of them.
    env: { ...clean, NODE_COMPILE_CACHE: join(folder, 'cache'), ...env },
    cwd: folder,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  children.add(child);
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString();
  });
  const ended = new Promise<Ended>((resolve) => {
    child.on('close', (code) => {
      children.delete(child);
      resolve({ code, out, err });
    });
  });
  return { child, ended, said: () => out, complained: () => err };
}

function run(args: readonly string[], input = '', env: Record<string, string> = {}): Promise<Ended> {
  const { child, ended } = start(args, env);
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(input);
  return ended;
}

/** A server that serves; its address. */
async function serve(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<ReturnType<typeof start> & { url: string }> {
  const started = start(['serve', '--listen', '127.0.0.1:0', ...args], env);
  for (;;) {
    const url = /serves (\S+)/.exec(started.said())?.[1];
    if (url !== undefined && started.said().includes('pull ')) return { ...started, url };
    const early = await Promise.race([
      started.ended,
      new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), 20)),
    ]);
    if (early !== undefined) throw new Error(`it ended: ${early.err}`);
  }
}

const basic = (name: string, password: string): Record<string, string> => ({
  authorization: `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`,
});

describe('arguments', () => {
  const commands = [
    { words: ['serve'], help: '', flags: { listen: { value: 'A', help: '' }, json: { help: '' } }, run: async () => 0 },
    { words: ['user', 'add'], takes: ['NAME'], help: '', flags: {}, run: async () => 0 },
  ];

  test('commands, flags and positionals', () => {
    assert.deepEqual(
      { ...parseCommandLine(['serve', '--listen', 'x', '--json'], commands).given.flags },
      { listen: 'x', json: true },
    );
    assert.deepEqual(parseCommandLine(['user', 'add', 'ann'], commands).given.positionals, ['ann']);
  });

  test('mistakes are told with what was meant', () => {
    const wrong: [string[], RegExp][] = [
      [['serv'], /did you mean "serve"/],
      [['user', 'ad', 'x'], /did you mean "user add"/],
      [['serve', '--lisen', 'x'], /no flag --lisen; did you mean --listen/],
      [['serve', '--listen'], /listen/],
      [['serve', 'extra'], /Usage: longshore serve/],
      [['user', 'add'], /Usage: longshore user add NAME/],
    ];
    for (const [args, said] of wrong) {
      assert.throws(
        () => parseCommandLine(args, commands),
        (error) => error instanceof UsageError && said.test(error.message),
        args.join(' '),
      );
    }
  });
});

describe('longshore', () => {
  test('version, help, and a command that does not exist', async () => {
    const { version } = JSON.parse(readFileSync(join(dirname(entry), '..', 'package.json'), 'utf8')) as {
      version: string;
    };
    assert.deepEqual(await run(['version']), { code: 0, out: `${version}\n`, err: '' });
    assert.match((await run(['--help'])).out, /longshore user add NAME/);
    const wrong = await run(['sreve']);
    assert.equal(wrong.code, 2);
    assert.equal(wrong.err, 'longshore: There is no command "sreve"; did you mean "serve"? See longshore --help.\n');
  });

  test('config schema, check and show', async () => {
    const schema = JSON.parse((await run(['config', 'schema'])).out) as { properties: Record<string, unknown> };
    assert.ok('immutability' in schema.properties && 'server' in schema.properties);
    const good = join(folder, 'good.yaml');
    writeFileSync(
      good,
      'server: { metricsToken: { file: token.txt } }\nimmutability: { rules: [{ name: r, tags: ["v*"] }] }\n',
    );
    writeFileSync(join(folder, 'token.txt'), 'canary-canary-canary\n');
    const checked = await run(['config', 'check', '--config', good]);
    assert.equal(checked.code, 0, checked.err);
    const shown = await run(['config', 'show', '--config', good, '--data', 'elsewhere']);
    assert.match(shown.out, /metricsToken: "\*\*\*"/);
    assert.match(shown.out, /data: elsewhere/);
    assert.doesNotMatch(shown.out, /canary/);
    const bad = join(folder, 'bad.yaml');
    writeFileSync(bad, 'gc: { tikc: 1m }\nimmutability: { rules: [{ nam: r }] }\n');
    for (const command of [['config', 'check'], ['serve'], ['user', 'list']]) {
      const { code, out, err } = await run([...command, '--config', bad]);
      assert.deepEqual([code, out], [2, ''], command.join(' '));
      assert.match(err, /gc\.tikc: no such setting; did you mean tick\?/);
      assert.match(err, /immutability\.rules\.0\.nam: no such setting/);
      assert.doesNotMatch(err, /at .*\.ts/);
    }
  });

  test('users: with a server through its socket, without on the folder; passwords never as arguments', async () => {
    const data = join(folder, 'users');
    const server = await serve(['--data', data]);
    assert.equal(statSync(data).mode & 0o777, 0o700);
    assert.match(server.said(), /the first `longshore user add NAME` ends that/);
    assert.equal((await fetch(`${server.url}/v2/`)).status, 200);
    const added = await run(['user', 'add', 'ann', '--data', data], 'first-password\n');
    assert.deepEqual([added.code, added.out, added.err], [0, 'User ann may log in now.\n', '']);
    assert.equal((await fetch(`${server.url}/v2/`)).status, 401);
    assert.equal((await fetch(`${server.url}/v2/`, { headers: basic('ann', 'first-password') })).status, 200);
    assert.equal((await fetch(`${server.url}/v2/`, { headers: basic('ann', 'wrong-password') })).status, 401);
    const refusals: [string[], string, RegExp][] = [
      [['user', 'add', 'ann'], 'other-password', /There is a user "ann" already/],
      [['user', 'add', 'bob'], 'short', /at least 8 characters/],
      [['user', 'add', 'bob'], '', /Give the password on standard input/],
      [['user', 'add', 'Bob!'], 'long-enough', /user name/],
      [['user', 'disable', 'nobody'], '', /There is no user "nobody"/],
      [['user', 'add', 'bob', 'password-as-argument'], '', /Usage/],
    ];
    for (const [args, input, said] of refusals) {
      const { code, err } = await run([...args, '--data', data], input);
      assert.notEqual(code, 0, args.join(' '));
      assert.match(err, said);
      assert.equal(err.trimEnd().split('\n').length, 1, err);
    }
    await run(['user', 'passwd', 'ann', '--data', data], 'second-password');
    assert.equal((await fetch(`${server.url}/v2/`, { headers: basic('ann', 'first-password') })).status, 401);
    await run(['user', 'disable', 'ann', '--data', data]);
    assert.equal((await fetch(`${server.url}/v2/`, { headers: basic('ann', 'second-password') })).status, 401);
    server.child.kill('SIGTERM');
    assert.equal((await server.ended).code, 0);
    assert.ok(!existsSync(join(data, 'admin.sock')));
    // The same without a server.
    assert.match((await run(['user', 'list', '--data', data])).out, /^ann .*disabled\n$/);
    assert.equal((await run(['user', 'enable', 'ann', '--data', data])).code, 0);
    const listed = JSON.parse((await run(['user', 'list', '--json', '--data', data])).out) as {
      name: string;
      disabled: boolean;
    }[];
    assert.deepEqual(
      listed.map(({ name, disabled }) => [name, disabled]),
      [['ann', false]],
    );
  });

  test('a folder in use, an address in use and an address of nobody end the start with a sentence', async () => {
    const data = join(folder, 'busy');
    const server = await serve(['--data', data]);
    const { host } = new URL(server.url);
    const cases: [string[], RegExp][] = [
      [['--listen', '127.0.0.1:0', '--data', data], /in use by another Longshore process/],
      [['--listen', host, '--data', join(folder, 'other')], /in use by another program/],
      [['--listen', '192.0.2.1:5000', '--data', join(folder, 'third')], /not an address of this machine/],
      [['--listen', 'nonsense', '--data', data], /server\.listen: must be an address and a port/],
    ];
    for (const [args, said] of cases) {
      const { code, err } = await run(['serve', ...args]);
      assert.notEqual(code, 0);
      assert.match(err, said);
      assert.doesNotMatch(err, /\.ts:\d+/);
    }
    server.child.kill('SIGTERM');
    assert.equal((await server.ended).code, 0);
  });

  test('several processes serve one folder, one of them killed is replaced, metrics are of all', async () => {
    const config = join(folder, 'several.yaml');
    writeFileSync(config, 'server: { processes: 2 }\n');
    const server = await serve(['--config', config, '--data', join(folder, 'several')]);
    const push = async (index: number): Promise<number> => {
      const begun = await fetch(`${server.url}/v2/p${index}/blobs/uploads/?digest=${EMPTY}`, {
        method: 'POST',
        headers: { connection: 'close' },
      });
      await begun.arrayBuffer();
      return begun.status;
    };
    const statuses = await Promise.all(Array.from({ length: 20 }, (_unused, index) => push(index)));
    assert.deepEqual([...new Set(statuses)], [201]);
    const text = await (await fetch(`${server.url}/metrics`)).text();
    assert.match(text, /longshore_protocol_requests_total\{method="POST",route="uploads?",status="2xx"\} 20/);
    const members = readFileSync(`/proc/${server.child.pid}/task/${server.child.pid}/children`, 'utf8')
      .trim()
      .split(' ')
      .map(Number);
    assert.equal(members.length, 2);
    process.kill(members[0]!, 'SIGKILL');
    for (let round = 0; round < 20; round++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      const answer = await fetch(`${server.url}/v2/`, { headers: { connection: 'close' } }).catch(() => undefined);
      if (answer !== undefined) assert.equal(answer.status, 200);
    }
    server.child.kill('SIGTERM');
    assert.equal((await server.ended).code, 0);
  });

  test('HTTPS and HTTP/2: a push and a pull through the whole program', async () => {
    const own = authority('Test authority');
    const issued = own.issue('server', 1);
    const config = join(folder, 'tls.yaml');
    writeFileSync(config, `server: { tls: { certificate: ${issued.certificate}, key: ${issued.key} } }\n`);
    const server = await serve(['--config', config, '--data', join(folder, 'tls')]);
    assert.match(server.url, /^https:/);
    const session = connectHttp2(server.url, { ca: readFileSync(own.certificate) });
    const ask = (
      headers: Record<string, string>,
      body = '',
    ): Promise<{ status: number; location: string; body: string }> =>
      new Promise((resolve, reject) => {
        const stream = session.request(headers, { endStream: body === '' });
        let got = '';
        let status = 0;
        let location = '';
        stream.on('response', (reply) => {
          status = Number(reply[':status']);
          location = String(reply.location ?? '');
        });
        stream.on('data', (chunk: Buffer) => {
          got += chunk.toString();
        });
        stream.on('end', () => resolve({ status, location, body: got }));
        stream.on('error', reject);
        if (body !== '') stream.end(body);
      });
    const begun = await ask({ ':method': 'POST', ':path': '/v2/h2/blobs/uploads/' });
    assert.equal(begun.status, 202);
    const pushed = await ask({ ':method': 'PUT', ':path': `${begun.location}?digest=${HELLO}` }, 'hello');
    assert.equal(pushed.status, 201);
    assert.deepEqual(await ask({ ':path': `/v2/h2/blobs/${HELLO}` }).then(({ status, body }) => [status, body]), [
      200,
      'hello',
    ]);
    assert.equal((await ask({ ':path': '/readyz' })).body, '{"status":"ready"}');
    session.close();
    server.child.kill('SIGTERM');
    assert.equal((await server.ended).code, 0);
    own.remove();
  });

  test('configuration by environment, and a new log level by SIGHUP; metrics on a listener of their own', async () => {
    const config = join(folder, 'reload.yaml');
    writeFileSync(config, 'log: { level: error }\n');
    const server = await serve(['--config', config, '--data', join(folder, 'reload')], {
      LONGSHORE_SERVER_METRICS_LISTEN: '127.0.0.1:0',
      LONGSHORE_LOG_ACCESS: join(folder, 'access.log'),
    });
    assert.equal((await fetch(`${server.url}/metrics`)).status, 404);
    assert.equal((await fetch(`${server.url}/livez`)).status, 200);
    writeFileSync(config, 'log: { level: info }\n');
    const says = async (what: RegExp): Promise<void> => {
      for (let tries = 0; tries < 2_400 && !what.test(server.complained()); tries++)
        await new Promise((resolve) => setTimeout(resolve, 50));
    };
    server.child.kill('SIGHUP');
    await says(/the configuration was loaded again/);
    writeFileSync(config, 'log: { levl: info }\n');
    server.child.kill('SIGHUP');
    await says(/could not be loaded again/);
    server.child.kill('SIGTERM');
    const { code, err } = await server.ended;
    assert.equal(code, 0);
    assert.match(err, /the configuration was loaded again/);
    assert.match(err, /could not be loaded again; the one in use stays/);
    assert.match(err, /"stopping"/);
    assert.match(readFileSync(join(folder, 'access.log'), 'utf8'), /"path":"\/metrics","status":404/);
  });
});

const EMPTY = 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const HELLO = 'sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824';
