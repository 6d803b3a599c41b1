/** An installation moved from SQLite to PostgreSQL and back: every answer is the same, byte for byte. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { postgresIsThere } from '../../../src/database/postgres/server.testing.ts';
import { type Client, client } from '../../support/client.ts';
import { describe as describePiece, image, index, randomPiece } from '../../support/images.ts';
import { longshoreCommand, startLongshore } from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { findTool, type Ran, run, runAny } from '../../support/tools.ts';
import { newSetup, postgres, startOne, stopPostgres } from './fleet.ts';

const BASIC = { authorization: `Basic ${Buffer.from('ann:correct horse').toString('base64')}` };
const HEADERS = ['content-type', 'docker-content-digest', 'etag', 'link', 'content-length'];
const REPOSITORY = 'moved/app';

function longshore(args: readonly string[], input?: string): Promise<Ran> {
  const [program = '', ...rest] = longshoreCommand();
  return runAny(program, [...rest, ...args], input === undefined ? {} : { input });
}

/** What a registry answers to these reads, to be compared. */
async function answersOf(http: Client, paths: readonly string[]): Promise<string[]> {
  const told: string[] = [];
  for (const path of paths) {
    const { status, headers, body } = await http.send('GET', path);
    const shown = HEADERS.map((name) => `${name}: ${headers[name]}`);
    told.push([path, status, ...shown, body.toString('hex')].join('\n'));
  }
  return told;
}

if (await postgresIsThere()) {
  after(stopPostgres);
  test('moved to PostgreSQL and back, an installation answers the same', async () => {
    const setup = await newSetup();
    const data = temporaryFolder('moved');
    const more = {
      storage: { fs: { root: setup.storage } },
      access: {
        anonymous: 'none',
        rules: [{ users: ['*'], repositories: ['**'], actions: ['pull', 'push', 'delete'] }],
      },
      log: { access: false },
    };
    assert.equal((await longshore(['user', 'add', 'ann', '--data', data], 'correct horse\n')).code, 0);
    const first = await startLongshore({ data, config: more });
    const http = client(first.url, BASIC);
    const apps = Array.from({ length: 12 }, () => image({ layers: [randomPiece(2_000), randomPiece(60_000)] }));
    for (const [number, app] of apps.entries()) await http.pushImage(REPOSITORY, app, `v${number}`);
    await http.pushManifest(REPOSITORY, apps[1]!.manifest, 'v0');
    const many = index(apps.slice(0, 3).map(({ manifest }) => describePiece(manifest)));
    assert.equal((await http.pushManifest(REPOSITORY, many, 'many')).status, 201);
    const signature = image({ artifactType: 'application/x-sig', subject: describePiece(apps[4]!.manifest) });
    await http.pushImage(REPOSITORY, signature);
    assert.equal((await http.send('DELETE', `/v2/${REPOSITORY}/manifests/v5`)).status, 202);
    assert.equal((await http.send('DELETE', `/v2/${REPOSITORY}/manifests/${apps[6]!.manifest.digest}`)).status, 202);
    assert.equal((await http.mountBlob('moved/other', apps[0]!.blobs[1]!.digest, REPOSITORY)).status, 201);
    // More rows than a page holds.
    for (let number = 0; number < 300; number++) await http.pushManifest(REPOSITORY, apps[2]!.manifest, `t${number}`);
    const begun = await http.send('POST', `/v2/${REPOSITORY}/blobs/uploads/`);
    const upload = new URL(begun.headers.location!, first.url).pathname;
    const late = randomPiece(50_000);
    const octets = { 'content-type': 'application/octet-stream' };
    const half = { headers: octets, body: late.bytes.subarray(0, 20_000) };
    assert.equal((await http.send('PATCH', upload, half)).status, 202);

    const paths = [
      '/v2/_catalog',
      ...['tags/list', 'tags/list?n=7&last=t150', `referrers/${apps[4]!.manifest.digest}`].map(
        (rest) => `/v2/${REPOSITORY}/${rest}`,
      ),
      ...[...apps, signature].flatMap(({ manifest, blobs }) => [
        `/v2/${REPOSITORY}/manifests/${manifest.digest}`,
        ...blobs.map(({ digest }) => `/v2/${REPOSITORY}/blobs/${digest}`),
      ]),
      ...['v0', 'v1', 'v5', 'v6', 'many', 't299'].map((tag) => `/v2/${REPOSITORY}/manifests/${tag}`),
      `/v2/moved/other/blobs/${apps[0]!.blobs[1]!.digest}`,
    ];
    const before = await answersOf(http, paths);
    const busy = await longshore(['migrate', '--from', `sqlite://${data}`, '--to', setup.url]);
    assert.equal(busy.code, 1);
    assert.match(busy.stderr, /in use by another Longshore process/);
    http.close();
    await first.stop();

    const moved = await longshore(['migrate', '--from', `sqlite://${join(data, 'longshore.db')}`, '--to', setup.url]);
    assert.equal(moved.code, 0, moved.stderr);
    assert.match(moved.stdout, /^tag +3\d\d$/m);
    assert.match(moved.stdout, /Moved \d+ rows of \d+ tables; the counts are alike/);
    const again = await longshore(['migrate', '--from', `sqlite://${data}`, '--to', setup.url]);
    assert.equal(again.code, 1);
    assert.match(again.stderr, /target is not empty/);

    const second = await startOne(setup, { access: more.access });
    const there = client(second.url, BASIC);
    assert.deepEqual(await answersOf(there, paths), before);
    // The upload goes on, new ids follow the old ones, and what was pushed can be pushed to.
    const rest = await there.send('PUT', `${upload}?digest=${late.digest}`, {
      headers: octets,
      body: late.bytes.subarray(20_000),
    });
    assert.equal(rest.status, 201, rest.body.toString());
    const next = image();
    await there.pushImage(REPOSITORY, next, 'v0');
    assert.equal((await there.send('DELETE', `/v2/${REPOSITORY}/manifests/v0`)).status, 202);
    const crane = findTool('crane');
    if (crane !== undefined) {
      const home = temporaryFolder('crane');
      const login = ['auth', 'login', second.host, '-u', 'ann', '-p', 'correct horse'];
      await run(crane, login, { env: { HOME: home, DOCKER_CONFIG: home } });
      const pull = ['pull', '--insecure', `${second.host}/${REPOSITORY}:v1`, join(home, 'app.tar')];
      await run(crane, pull, { env: { HOME: home, DOCKER_CONFIG: home } });
    }
    const after = await answersOf(there, paths);
    const running = await longshore(['migrate', '--from', setup.url, '--to', `sqlite://${temporaryFolder('back')}`]);
    assert.equal(running.code, 1);
    assert.match(running.stderr, /servers are connected/);
    there.close();
    await second.stop();

    const back = temporaryFolder('back');
    const returned = await longshore(['migrate', '--from', setup.url, '--to', `sqlite://${back}`]);
    assert.equal(returned.code, 0, returned.stderr);
    const third = await startLongshore({ data: back, config: more });
    const home = client(third.url, BASIC);
    assert.deepEqual(await answersOf(home, paths), after);
    await home.pushImage(REPOSITORY, image(), 'v9');
    home.close();
    await third.stop();
  });

  test('a move says what is wrong with its sides', async () => {
    const { url } = await postgres();
    const wrong = async (from: string, to: string): Promise<string> => {
      const { code, stderr } = await longshore(['migrate', '--from', from, '--to', to]);
      assert.notEqual(code, 0);
      assert.doesNotMatch(stderr, /secret|at .*\.ts:/);
      return stderr;
    };
    assert.match(await wrong(url, url), /goes from sqlite:\/\/ to postgres:\/\//);
    assert.match(await wrong('mysql://u:secret@h/d', url), /is given as/);
    const dead = 'postgres://u:secret@127.0.0.1:1/none';
    assert.match(await wrong(`sqlite://${temporaryFolder('none')}`, dead), /PostgreSQL does not answer/);
  });
}
