/** The commands that speak to a server: what people read, what programs read, and what a refusal says. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { cleanEnvironment, longshoreCommand } from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { ask } from '../support/wire.ts';
import { freshRepository } from './samples.ts';
import { as, openApi, passwordOf } from './support.ts';

const server = await openApi();
const home = temporaryFolder('home');
const admin = { LONGSHORE_USERNAME: 'admin', LONGSHORE_PASSWORD: passwordOf('admin') };

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs the command line against the server, as the administrator where `env` says nothing else. */
function longshore(args: readonly string[], env: Record<string, string> = admin, url = server.url): Promise<Ended> {
  const [program = '', ...rest] = longshoreCommand();
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...rest, ...args, '--server', url], {
      env: cleanEnvironment({ HOME: home, NODE_COMPILE_CACHE: join(home, 'cache'), ...env }),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const said = { out: '', err: '' };
    child.stdout.on('data', (data: Buffer) => {
      said.out += data.toString();
    });
    child.stderr.on('data', (data: Buffer) => {
      said.err += data.toString();
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code: code ?? -1, ...said }));
  });
}

async function well(args: readonly string[], env?: Record<string, string>): Promise<string> {
  const { code, out, err } = await longshore(args, env);
  assert.equal(code, 0, err);
  return out;
}

const name = 'team/cli';
const one = await freshRepository(server, name);
const two = await freshRepository(server, name);

test('history, roll back, undelete and purge', async () => {
  const shown = await well(['tag', 'history', name, 'v1']);
  assert.match(shown, /SEQUENCE +WHEN +WHAT +FROM +TO +WHO/);
  assert.match(shown, new RegExp(`moved +${one.slice(0, 19)} +${two.slice(0, 19)} +admin +127\\.0\\.0\\.1`));
  const entries = JSON.parse(await well(['tag', 'history', name, 'v1', '--json'])) as {
    sequence: number;
    to: string;
  }[];
  assert.deepEqual(
    entries.map(({ to }) => to),
    [two, one],
  );
  assert.match(await well(['tag', 'rollback', name, 'v1', '--to', String(entries[1]!.sequence)]), new RegExp(one));
  assert.match(await well(['tag', 'rollback', name, 'v1', '--to', two, '--expect', one]), new RegExp(two));
  const stale = await longshore(['tag', 'rollback', name, 'v1', '--to', one, '--expect', one]);
  assert.equal(stale.code, 1);
  assert.match(stale.err, new RegExp(`^longshore: The tag v1 is at ${two} now`));
  const gone = await ask(server, 'DELETE', `/v2/${name}/manifests/${one}`, { headers: as('admin') });
  assert.equal(gone.status, 202);
  assert.match(await well(['deleted', name]), new RegExp(`manifest +${one}.*about 7 days`));
  assert.match(await well(['undelete', name, one]), /is back, without tags/);
  assert.match(await well(['deleted', name]), /Nothing/);
  await ask(server, 'DELETE', `/v2/${name}/manifests/v1`, { headers: as('admin') });
  assert.match(await well(['undelete', name, 'v1']), new RegExp(two));
  await ask(server, 'DELETE', `/v2/${name}/manifests/v1`, { headers: as('admin') });
  assert.match(await well(['purge', name, 'v1']), /cannot be brought back/);
  const nothing = await longshore(['tag', 'undelete', name, 'v1']);
  assert.equal(nothing.code, 1);
  assert.match(nothing.err, /no such manifest/);
});

test('holds', async () => {
  const reason = 'a reason \u001b[31mwith colour\u001b[0m';
  const added = JSON.parse(
    await well(['hold', 'add', name, '--digest', two, '--reason', reason, '--until', '2099-01-01', '--json']),
  ) as { id: string; until: string };
  assert.equal(added.until, '2099-01-01T00:00:00.000Z');
  const listed = await well(['hold', 'list']);
  assert.match(listed, new RegExp(`${added.id} +${name}@${two} +admin +2099-01-01`));
  assert.doesNotMatch(listed, /\u001b/);
  assert.match(await well(['hold', 'list', '--repository', name]), new RegExp(added.id));
  assert.match(await well(['hold', 'remove', added.id]), /lifted/);
  assert.match(await well(['hold', 'list']), /no holds/);
  const unsaid = await longshore(['hold', 'add', name]);
  assert.equal(unsaid.code, 2);
  assert.match(unsaid.err, /--reason/);
  const wrong = await longshore(['hold', 'add', name, '--reason', 'x', '--tag', '.bad', '--until', 'soon']);
  assert.equal(wrong.code, 1);
  assert.match(wrong.err, /body\.tag: must be a tag[\s\S]*body\.until/);
});

test('credentials come from the environment, a file, or what docker login left', async () => {
  const file = join(home, 'password');
  writeFileSync(file, `${passwordOf('reader')}\n`);
  assert.match(
    await well(['tag', 'history', name, 'v1'], { LONGSHORE_USERNAME: 'reader', LONGSHORE_PASSWORD_FILE: file }),
    /admin/,
  );
  const docker = join(home, 'docker');
  mkdirSync(docker);
  const login = (auths: unknown): void => writeFileSync(join(docker, 'config.json'), JSON.stringify({ auths }));
  const auth = Buffer.from(`writer:${passwordOf('writer')}`).toString('base64');
  login({ [server.host]: { auth } });
  assert.match(await well(['tag', 'history', name, 'v1'], { DOCKER_CONFIG: docker }), /127\.0\.0\.1/);
  // Those of another server are not for this one.
  for (const auths of [
    { 'elsewhere.example': { auth } },
    { __proto__: { auth } },
    [],
    null,
    { [server.host]: { auth: 7 } },
  ]) {
    login(auths);
    const { code, err } = await longshore(['tag', 'history', name, 'v1'], { DOCKER_CONFIG: docker });
    assert.equal(code, 1);
    assert.match(err, /Authentication is required.*LONGSHORE_USERNAME/s);
  }
  writeFileSync(join(docker, 'config.json'), 'no json');
  assert.match((await longshore(['hold', 'list'], { DOCKER_CONFIG: docker })).err, /is not JSON/);
  const refused = await longshore(['hold', 'list'], {
    LONGSHORE_USERNAME: 'writer',
    LONGSHORE_PASSWORD: 'not this one',
  });
  assert.equal(refused.code, 1);
  assert.match(refused.err, /password is wrong/);
  assert.doesNotMatch(refused.err + refused.out, /not this one/);
  assert.equal((await longshore(['hold', 'list'], { LONGSHORE_USERNAME: 'writer' })).code, 2);
});

test('a server that is not there, is none, or answers too much', async () => {
  const away = await longshore(['hold', 'list'], admin, 'http://127.0.0.1:9');
  assert.equal(away.code, 1);
  assert.match(away.err, /does not answer/);
  for (const url of ['ftp://127.0.0.1', 'nonsense', 'http://user:secret@127.0.0.1']) {
    const { code, err } = await longshore(['hold', 'list'], admin, url);
    assert.equal(code, 2);
    assert.doesNotMatch(err, /secret/);
  }
  const strange = createServer((request, response) => {
    if (request.url?.includes('history')) {
      response.writeHead(500, { 'content-type': 'text/html' });
      response.end('<h1>\u001b[2J</h1>');
    } else response.end(Buffer.alloc(17 * 1024 * 1024, 0x20));
  });
  after(() => strange.close());
  await new Promise<void>((resolve) => strange.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(strange.address() as AddressInfo).port}`;
  const failed = await longshore(['tag', 'history', 'a', 'b'], admin, url);
  assert.deepEqual([failed.code, failed.err], [1, `longshore: ${url} answered 500.\n`]);
  assert.match((await longshore(['hold', 'list'], admin, url)).err, /more than 16 MiB/);
});
