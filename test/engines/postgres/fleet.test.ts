/** Several servers over one PostgreSQL: what one did, every other shows at once; no upload is written by two. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { postgresIsThere } from '../../../src/database/postgres/server.testing.ts';
import { type Client, client } from '../../support/client.ts';
import { type Image, image, piece, randomPiece } from '../../support/images.ts';
import { choices, runSeed } from '../../support/random.ts';
import type { Longshore } from '../../support/server.ts';
import { command, newSetup, postgres, type Setup, startOne, stopPostgres, until } from './fleet.ts';

const REPOSITORIES = ['fleet/a', 'fleet/b'];
const TAGS = ['v1', 'v2', 'latest'];
const STEPS = 250;
const OCTETS = { 'content-type': 'application/octet-stream' };

if (await postgresIsThere()) {
  describe('a fleet on PostgreSQL', () => {
    let setup: Setup;
    let servers: Longshore[];
    let clients: Client[];
    before(async () => {
      setup = await newSetup();
      // All at once: they make the tables, the keys and the first rows together.
      servers = await Promise.all([startOne(setup), startOne(setup), startOne(setup)]);
      clients = servers.map(({ url }) => client(url));
    });
    after(async () => {
      for (const one of clients) one.close();
      await Promise.all(servers.map((one) => one.stop()));
      await stopPostgres();
    });

    test('the servers that started at once made one installation', async () => {
      const pg = await postgres();
      assert.equal(await pg.sql('select 1'), '1');
      const { stdout } = await command(setup, ['gc', 'status', '--json']);
      assert.equal(JSON.parse(stdout).status.blobs, 0);
    });

    test('every request at a random server, compared with a model', async (t) => {
      const seed = runSeed();
      t.diagnostic(`seed ${seed}`);
      const random = choices(seed);
      const any = (): Client => random.pick(clients)!;
      const pushed: Image[] = [];
      /** repository → reference → digest. */
      const tags = new Map<string, Map<string, string>>(REPOSITORIES.map((name) => [name, new Map()]));
      const live = new Map<string, Set<string>>(REPOSITORIES.map((name) => [name, new Set()]));
      const trail: string[] = [];
      for (let step = 0; step < STEPS; step++) {
        const name = random.pick(REPOSITORIES)!;
        const tag = random.pick(TAGS)!;
        const known = random.pick(pushed);
        const act = random.pick(['push', 'move', 'pull', 'pull', 'pull', 'untag', 'delete', 'list'] as const)!;
        trail.push(`${act} ${name} ${tag}`);
        const where = `seed ${seed}, step ${step}: ${trail.slice(-5).join('; ')}`;
        if (act === 'push' || (act === 'move' && known === undefined)) {
          const made = image({ layers: [randomPiece(random.pick([100, 40_000])!)] });
          for (const blob of made.blobs) assert.equal((await any().pushBlob(name, blob)).status, 201, where);
          assert.equal((await any().pushManifest(name, made.manifest, tag)).status, 201, where);
          pushed.push(made);
          tags.get(name)!.set(tag, made.manifest.digest);
          live.get(name)!.add(made.manifest.digest);
        } else if (act === 'move') {
          const there = known!.blobs.map(({ digest }) => any().send('HEAD', `/v2/${name}/blobs/${digest}`));
          const whole = (await Promise.all(there)).every(({ status }) => status === 200);
          const answer = await any().pushManifest(name, known!.manifest, tag);
          assert.equal(answer.status, whole ? 201 : 404, where);
          if (!whole) continue;
          tags.get(name)!.set(tag, known!.manifest.digest);
          live.get(name)!.add(known!.manifest.digest);
        } else if (act === 'pull') {
          const expected = tags.get(name)!.get(tag);
          for (const one of clients) {
            const got = await one.hash(`/v2/${name}/manifests/${tag}`);
            assert.equal(got.status, expected === undefined ? 404 : 200, where);
            if (expected !== undefined) assert.equal(got.digest, expected, where);
          }
          if (known === undefined) continue;
          const got = await any().hash(`/v2/${name}/manifests/${known.manifest.digest}`);
          assert.equal(got.status, live.get(name)!.has(known.manifest.digest) ? 200 : 404, where);
        } else if (act === 'untag') {
          const { status } = await any().send('DELETE', `/v2/${name}/manifests/${tag}`);
          assert.equal(status, tags.get(name)!.delete(tag) ? 202 : 404, where);
        } else if (act === 'delete' && known !== undefined) {
          const { digest } = known.manifest;
          const { status } = await any().send('DELETE', `/v2/${name}/manifests/${digest}`);
          assert.equal(status, live.get(name)!.delete(digest) ? 202 : 404, where);
          for (const [one, at] of tags.get(name)!) if (at === digest) tags.get(name)!.delete(one);
          // I7: no instance answers 200 any more.
          for (const one of clients) {
            assert.equal((await one.send('HEAD', `/v2/${name}/manifests/${digest}`)).status, 404, where);
          }
        } else if (act === 'list') {
          const answer = await any().send('GET', `/v2/${name}/tags/list`);
          if (answer.status === 404) continue;
          assert.deepEqual(JSON.parse(answer.body.toString()).tags ?? [], [...tags.get(name)!.keys()].sort(), where);
        }
      }
    });

    test('an upload begins here, goes on there, and ends at the first', async () => {
      const [one, two, three] = clients as [Client, Client, Client];
      for (const size of [300, 200_000]) {
        const blob = randomPiece(size);
        const half = Math.floor(size / 2);
        const begun = await one.send('POST', '/v2/fleet/upload/blobs/uploads/');
        const at = (answer: { headers: { location?: string | undefined } }) =>
          new URL(answer.headers.location!, one.url);
        const patched = await two.send('PATCH', at(begun).pathname, {
          headers: { ...OCTETS, 'content-range': `0-${half - 1}` },
          body: blob.bytes.subarray(0, half),
        });
        assert.equal(patched.status, 202, patched.body.toString());
        const status = await three.send('GET', at(patched).pathname);
        assert.equal(status.headers.range, `0-${half - 1}`);
        const again = await three.send('PATCH', at(patched).pathname, {
          headers: { ...OCTETS, 'content-range': `${half}-${size - 2}` },
          body: blob.bytes.subarray(half, size - 1),
        });
        assert.equal(again.status, 202, again.body.toString());
        const put = await one.send('PUT', `${at(again).pathname}?digest=${blob.digest}`, {
          headers: { ...OCTETS, 'content-range': `${size - 1}-${size - 1}` },
          body: blob.bytes.subarray(size - 1),
        });
        assert.equal(put.status, 201, put.body.toString());
        for (const any of clients) {
          assert.equal((await any.hash(`/v2/fleet/upload/blobs/${blob.digest}`)).digest, blob.digest);
        }
      }
    });

    test('of a PATCH and a PUT of one upload at different servers exactly one wins', async () => {
      const [one, two] = clients as [Client, Client];
      for (let round = 0; round < 12; round++) {
        const size = round % 2 === 0 ? 200 : 100_000;
        const first = randomPiece(size).bytes;
        const left = randomPiece(size).bytes;
        const right = randomPiece(size).bytes;
        const begun = await one.send('POST', '/v2/fleet/race/blobs/uploads/');
        const path = new URL(begun.headers.location!, one.url).pathname;
        const range = (from: number, to: number) => ({ ...OCTETS, 'content-range': `${from}-${to - 1}` });
        const start = await one.send('PATCH', path, { headers: range(0, size), body: first });
        assert.equal(start.status, 202);
        const whole = piece(Buffer.concat([first, left]));
        const [put, patch] = await Promise.all([
          one.send('PUT', `${path}?digest=${whole.digest}`, { headers: range(size, 2 * size), body: left }),
          two.send('PATCH', path, { headers: range(size, 2 * size), body: right }),
        ]);
        const told = `${put.status} ${put.body} ${patch.status} ${patch.body}`;
        if (put.status === 201) {
          assert.ok([404, 416].includes(patch.status), told);
          assert.equal((await two.hash(`/v2/fleet/race/blobs/${whole.digest}`)).digest, whole.digest);
        } else {
          // Who lost may try again where the winner left off, with the winner's bytes under it.
          assert.equal(patch.status, 202, told);
          assert.ok([400, 404, 416].includes(put.status), told);
          const won = piece(Buffer.concat([first, right]));
          const end = await one.send('PUT', `${path}?digest=${won.digest}`);
          if (put.status === 416) assert.equal(end.status, 201, `${told} then ${end.body}`);
        }
      }
    });

    test('the command line works beside them: users, and a collection', async () => {
      const added = await command(setup, ['user', 'add', 'ann'], 'correct horse\n');
      assert.equal(added.code, 0, added.stderr);
      const listed = await command(setup, ['user', 'list']);
      assert.match(listed.stdout, /^ann +\d{4}-\d{2}-\d{2} +enabled$/m);
      const twice = await command(setup, ['user', 'add', 'ann'], 'correct horse\n');
      assert.equal(twice.code, 1);
      const collections = [1, 2].map(() => command(setup, ['gc', 'run', '--json']));
      for (const { code, stdout, stderr } of await Promise.all(collections)) {
        assert.equal(code, 0, stderr);
        assert.equal(JSON.parse(stdout).condemned, 0);
      }
      const lost = await command({ ...setup, url: 'postgres://u:verysecret@127.0.0.1:1/none' }, ['user', 'list']);
      assert.equal(lost.code, 1);
      assert.match(lost.stderr, /PostgreSQL does not answer/);
      assert.doesNotMatch(lost.stderr, /verysecret/);
    });
  });

  test('tokens of one server open the others, and a disabled account none of them', async () => {
    const setup = await newSetup();
    const rules = [{ users: ['*'], repositories: ['**'], actions: ['pull', 'push', 'delete'] }];
    const more = { access: { anonymous: 'none', rules } };
    assert.equal((await command(setup, ['user', 'add', 'bob'], 'correct horse\n')).code, 0);
    const servers = await Promise.all([startOne(setup, more), startOne(setup, more)]);
    const basic = { authorization: `Basic ${Buffer.from('bob:correct horse').toString('base64')}` };
    const [one, two] = servers.map(({ url }) => client(url)) as [Client, Client];
    const ask = '/token?service=longshore&scope=repository:fleet/token:pull,push';
    const { token } = JSON.parse((await one.send('GET', ask, { headers: basic })).body.toString()) as { token: string };
    const bearer = { authorization: `Bearer ${token}` };
    for (const any of [one, two]) {
      for (const headers of [bearer, basic]) {
        assert.equal((await any.send('POST', '/v2/fleet/token/blobs/uploads/', { headers })).status, 202);
      }
    }
    const disabled = await command(setup, ['user', 'disable', 'bob']);
    assert.equal(disabled.code, 0, disabled.stderr);
    for (const any of [one, two]) {
      for (const headers of [bearer, basic]) {
        await until(
          'a disabled account',
          async () => (await any.send('POST', '/v2/fleet/token/blobs/uploads/', { headers })).status,
          (status) => status === 401,
        );
      }
      any.close();
    }
    await Promise.all(servers.map((server) => server.stop()));
    await stopPostgres();
  });

  test('several processes of one server, each with connections of its own', async () => {
    const setup = await newSetup();
    const server = await startOne(setup, { server: { processes: 2 } });
    const clients = Array.from({ length: 4 }, () => client(server.url));
    const made = image();
    await clients[0]!.pushImage('several/app', made, 'v1');
    for (const one of clients) {
      assert.equal((await one.hash('/v2/several/app/manifests/v1')).digest, made.manifest.digest);
      one.close();
    }
    await server.stop();
    await stopPostgres();
  });

  test('a server with another storage than the rest does not start', async () => {
    const setup = await newSetup();
    const first = await startOne(setup);
    const other = await newSetup();
    const wrong = await startOne({ ...setup, storage: other.storage }, {}).then(
      async (server) => {
        await server.stop();
        return 'it started';
      },
      (error: Error) => error.message,
    );
    // Nothing is stored yet, so an empty storage is one like the other; with bytes it is not.
    assert.equal(wrong, 'it started');
    const one = client(first.url);
    assert.equal((await one.pushBlob('own/storage', randomPiece(50_000))).status, 201);
    one.close();
    const late = await newSetup();
    await assert.rejects(startOne({ ...setup, storage: late.storage }), /none of the bytes that the database knows of/);
    await first.stop();
    await stopPostgres();
  });
}
