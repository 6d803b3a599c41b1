/**
 * Makes a small data folder as the present program leaves it, for `test/upgrade.test.ts`: every later program must find
 * in it what this one served. Run it at a landing that ends with a new migration, and check in what it made.
 *
 *   node tools/fixture.ts [--program CHECKOUT] [--to test/fixtures/data]
 *
 * It makes `TO/<last migration>/`: `answers.json` with what the server answered, and the files of the data folder, each
 * compressed with zstd.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { zstdCompressSync } from 'node:zlib';
import { client } from '../test/support/client.ts';
import { describe, image, index, jsonPiece, piece, TYPES } from '../test/support/images.ts';
import { freePort } from '../test/support/port.ts';
import { cleanEnvironment, ROOT, statusOf } from '../test/support/server.ts';

const { values } = parseArgs({
  options: {
    program: { type: 'string', default: ROOT },
    to: { type: 'string', default: 'test/fixtures/data' },
  },
});

/** What a test has to set, so that the folder is served as it was. */
const ENVIRONMENT = { LONGSHORE_ACCESS_ANONYMOUS: 'push', LONGSHORE_LOG_ACCESS: 'false' };
/** Longer than the jobs that spill and mirror wait. */
const SETTLE_MILLISECONDS = 13_000;

/** One question and what was answered. */
interface Answer {
  readonly method: string;
  readonly path: string;
  readonly authorization?: string;
  readonly status: number;
  readonly type?: string;
  readonly digest?: string;
  /** Of the body; absent for HEAD and for what differs each time. */
  readonly sha256?: string;
}

const data = mkdtempSync(join(tmpdir(), 'longshore-fixture-'));
const main = join(values.program, 'src/main.ts');

function longshore(args: readonly string[], input = ''): Promise<ChildProcess> {
  const child = spawn(process.execPath, [main, ...args, '--data', data], {
    env: cleanEnvironment(ENVIRONMENT),
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  child.stdin.end(input);
  return new Promise((done, fail) => {
    child.on('error', fail);
    if (args[0] === 'serve') return done(child);
    child.on('exit', (code) => (code === 0 ? done(child) : fail(new Error(`longshore ${args.join(' ')}: ${code}`))));
  });
}

/** Bytes that are the same at each run and that nothing makes smaller. */
function noise(seed: string, size: number): Uint8Array {
  const parts: Buffer[] = [];
  for (let at = 0; at < size; at += 32) parts.push(createHash('sha256').update(`${seed} ${at}`).digest());
  return Buffer.concat(parts).subarray(0, size);
}

const port = await freePort();
const server = await longshore(['serve', '--listen', `127.0.0.1:${port}`]);
try {
  const url = `http://127.0.0.1:${port}`;
  while ((await statusOf(`${url}/v2/`)) === undefined) await sleep(50);
  await longshore(['user', 'add', 'ann'], 'first password of ann\n');
  await longshore(['user', 'add', 'bob'], 'first password of bob\n');
  await longshore(['user', 'disable', 'bob']);
  const http = client(url);
  const layer = piece(noise('layer', 50_000));
  const make = (name: string) => image({ layers: [layer, piece(`small layer of ${name}`)] });
  const [first, second, third, gone] = [make('first'), make('second'), make('third'), make('gone')];
  await http.pushImage('team/app', first, 'v1');
  await http.pushImage('team/app', second, 'v2');
  await http.pushImage('team/app', first, 'latest');
  await http.pushManifest('team/app', second.manifest, 'latest');
  const both = index([describe(first.manifest), describe(second.manifest)], {
    annotations: { 'org.opencontainers.image.title': 'Grüße' },
  });
  await http.pushManifest('team/app', both, 'both');
  const empty = jsonPiece({}, TYPES.empty);
  const artifact = image({
    ...{ config: empty, layers: [piece('a signature', 'text/plain')] },
    ...{ artifactType: 'application/vnd.example.signature', subject: describe(second.manifest) },
  });
  await http.pushImage('team/app', artifact);
  await http.pushImage('team/app', gone, 'old');
  await http.send('DELETE', `/v2/team/app/manifests/old`);
  await http.send('DELETE', `/v2/team/app/manifests/${gone.manifest.digest}`);
  await http.pushImage('other', third, 'v1');
  await http.mountBlob('mounted/here', layer.digest, 'team/app');
  await sleep(SETTLE_MILLISECONDS);
  // These are still inline when it stops.
  const late = make('late');
  await http.pushImage('late/image', late, 'v1');

  const answers: Answer[] = [];
  const accept = Object.values(TYPES).join(', ');
  const ask = async (method: string, path: string, user?: string): Promise<void> => {
    const authorization = user === undefined ? undefined : `Basic ${Buffer.from(user).toString('base64')}`;
    const headers = { accept, ...(authorization === undefined ? {} : { authorization }) };
    const { status, headers: got, body } = await http.send(method, path, { headers });
    const digest = got['docker-content-digest'];
    const isSame = method === 'GET' && status === 200 && !path.startsWith('/token');
    answers.push({
      ...{ method, path, ...(authorization === undefined ? {} : { authorization }), status },
      ...(isSame ? { type: String(got['content-type']) } : {}),
      ...(typeof digest === 'string' ? { digest } : {}),
      ...(isSame ? { sha256: createHash('sha256').update(body).digest('hex') } : {}),
    });
  };
  const manifests = { first, second, artifact, gone } as const;
  for (const tag of ['v1', 'v2', 'latest', 'both', 'old', 'never']) {
    await ask('GET', `/v2/team/app/manifests/${tag}`);
    await ask('HEAD', `/v2/team/app/manifests/${tag}`);
  }
  for (const { manifest, blobs } of Object.values(manifests)) {
    await ask('GET', `/v2/team/app/manifests/${manifest.digest}`);
    await ask('GET', `/v2/team/app/referrers/${manifest.digest}`);
    for (const { digest } of blobs) await ask('GET', `/v2/team/app/blobs/${digest}`);
  }
  for (const [name, pushed] of [['other', third] as const, ['late/image', late] as const]) {
    await ask('GET', `/v2/${name}/manifests/v1`);
    for (const { digest } of pushed.blobs) await ask('GET', `/v2/${name}/blobs/${digest}`);
  }
  for (const name of ['team/app', 'other', 'late/image', 'mounted/here', 'nowhere'])
    await ask('GET', `/v2/${name}/tags/list`);
  await ask('HEAD', `/v2/mounted/here/blobs/${layer.digest}`);
  await ask('HEAD', `/v2/other/blobs/${empty.digest}`);
  await ask('GET', '/v2/_catalog');
  await ask('GET', '/token?service=longshore', 'ann:first password of ann');
  await ask('GET', '/token?service=longshore', 'ann:another password');
  await ask('GET', '/token?service=longshore', 'bob:first password of bob');
  http.close();

  server.kill('SIGTERM');
  await new Promise<void>((done, fail) =>
    server.on('exit', (code) => (code === 0 ? done() : fail(new Error(`the server ended with ${code}`)))),
  );
  const db = new DatabaseSync(join(data, 'longshore.db'), { readOnly: true });
  const last = db.prepare('select number, name from migration order by number desc limit 1').get();
  db.close();
  const { number, name } = last as { number: number; name: string };
  const schema = `${String(number).padStart(4, '0')}-${name}`;
  const to = resolve(ROOT, values.to, schema);
  rmSync(to, { recursive: true, force: true });
  mkdirSync(to, { recursive: true });
  const files = readdirSync(data, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  for (const file of files) {
    const path = join(file.parentPath, file.name);
    const way = relative(data, path);
    if (way === 'lock.db' || way.endsWith('-shm')) continue;
    if (way.endsWith('-wal')) {
      if (statSync(path).size > 0) throw new Error(`${way} was not emptied at the stop`);
      continue;
    }
    const target = join(to, 'files', `${way}.zst`);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, zstdCompressSync(readFileSync(path)));
  }
  const written = { schema: number, environment: ENVIRONMENT, answers };
  writeFileSync(join(to, 'answers.json'), `${JSON.stringify(written, undefined, 2)}\n`);
  process.stdout.write(`${relative(ROOT, to)}: ${answers.length} answers\n`);
} finally {
  if (server.exitCode === null) server.kill('SIGKILL');
  rmSync(data, { recursive: true, force: true });
}
