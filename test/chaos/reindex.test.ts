/**
 * Storage alone is enough: a server is killed, its database thrown away, and what `longshore reindex` makes of storage
 * answers as before, byte for byte. Also where the rebuild itself is killed, at each of its failpoints.
 */
import assert from 'node:assert/strict';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Client, client } from '../support/client.ts';
import { describe, digestOf, image, index, type Piece, piece, randomPiece, runnableImage } from '../support/images.ts';
import { longshoreCommand, startLongshore } from '../support/server.ts';
import { runAny } from '../support/tools.ts';
import { disagreements } from './disk.ts';

const REPOSITORIES = ['app', 'app/blobs/uploads', 'app/manifests/v1', 'team/tools'];

/** Runs the command line. */
function longshore(args: readonly string[], failpoint?: string) {
  const [program = '', ...rest] = longshoreCommand();
  const env = failpoint === undefined ? {} : { LONGSHORE_TEST_FAILPOINT: failpoint };
  return runAny(program, [...rest, ...args], { env });
}

/** Images, an index, an artifact about one of them, a fallback tag, sha512, large layers, and some deletions. */
async function fill(http: Client): Promise<void> {
  for (const repository of REPOSITORIES) {
    const first = runnableImage([{ hello: repository }]);
    const second = image({ layers: [randomPiece(300_000), piece('small')] });
    await http.pushImage(repository, first, 'v1');
    await http.pushImage(repository, second, 'v2');
    const both = index([describe(first.manifest), describe(second.manifest)]);
    assert.equal((await http.pushManifest(repository, both, 'latest')).status, 201);
    const about = image({
      subject: describe(first.manifest),
      artifactType: 'application/x.note',
      annotations: { a: 'b' },
    });
    await http.pushImage(repository, about);
    const fallback = index([describe(about.manifest)]);
    await http.pushManifest(repository, fallback, `sha256-${second.manifest.digest.slice(7)}`);
    const long: Piece = { ...piece('long'), digest: digestOf(Buffer.from('long'), 'sha512') };
    await http.pushImage(repository, image({ layers: [long] }), 'sha512');
    const gone = image();
    await http.pushImage(repository, gone, 'gone');
    assert.equal((await http.send('DELETE', `/v2/${repository}/manifests/${gone.manifest.digest}`)).status, 202);
  }
}

/** Every answer there is: lists, manifests by tag and digest, referrers, and each blob that a manifest names. */
async function everything(http: Client): Promise<Record<string, string>> {
  const seen: Record<string, string> = {};
  const text = async (path: string): Promise<string> => {
    const { status, headers, body } = await http.send('GET', path, { headers: { accept: '*/*' } });
    seen[path] = `${status} ${headers['content-type']} ${headers['docker-content-digest'] ?? ''} ${body}`;
    return body.toString();
  };
  await text('/v2/_catalog');
  for (const repository of REPOSITORIES) {
    const { tags } = JSON.parse(await text(`/v2/${repository}/tags/list`)) as { tags: string[] };
    const waiting = [...tags];
    const done = new Set<string>();
    for (let reference = waiting.pop(); reference !== undefined; reference = waiting.pop()) {
      if (done.has(reference)) continue;
      done.add(reference);
      const manifest = JSON.parse(await text(`/v2/${repository}/manifests/${reference}`)) as {
        config?: { digest: string };
        layers?: { digest: string }[];
        manifests?: { digest: string }[];
      };
      for (const { digest } of manifest.manifests ?? []) {
        waiting.push(digest);
        const { manifests } = JSON.parse(await text(`/v2/${repository}/referrers/${digest}`)) as {
          manifests: { digest: string }[];
        };
        waiting.push(...manifests.map((one) => one.digest));
      }
      for (const { digest } of [
        ...(manifest.config === undefined ? [] : [manifest.config]),
        ...(manifest.layers ?? []),
      ]) {
        const path = `/v2/${repository}/blobs/${digest}`;
        const { status, size, digest: read } = await http.hash(path);
        seen[path] = `${status} ${size} ${read}`;
      }
    }
  }
  return seen;
}

function throwDatabaseAway(data: string): void {
  for (const file of readdirSync(data)) {
    if (/^(longshore|side)\.db/.test(file)) rmSync(join(data, file));
  }
}

test('drained through the running server, killed, and its database thrown away: nothing is missing', async () => {
  const first = await startLongshore();
  const { data } = first;
  const http = client(first.url);
  await fill(http);
  const drained = await longshore(['drain', '--data', data, '--json']);
  assert.equal(drained.code, 0, drained.stderr);
  const { blobsLeft, repositories, failed } = JSON.parse(drained.stdout);
  assert.deepEqual([blobsLeft, repositories, failed], [0, REPOSITORIES.length, []]);
  const before = await everything(http);
  assert.ok(Object.keys(before).length > 80, `${Object.keys(before).length} answers`);
  assert.match((await longshore(['reindex', '--data', data])).stderr, /in use|another process|has it/i);
  http.close();
  await first.kill();
  throwDatabaseAway(data);

  const rebuilt = await longshore(['reindex', '--data', data]);
  assert.equal(rebuilt.code, 0, rebuilt.stderr);
  assert.match(rebuilt.stdout, /4 repositories, \d+ manifests, 20 tags, 0 problems/);
  const second = await startLongshore({ data });
  const again = client(second.url);
  assert.deepEqual(await everything(again), before);
  again.close();
  await second.stop();
  assert.deepEqual(disagreements(data), []);
  const refused = await longshore(['reindex', '--data', data]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /has 4 repositories and .* already/);
});

test('a rebuild that is killed serves nothing, and ends when it is run again; what is lost is said', async () => {
  const first = await startLongshore();
  const { data } = first;
  const http = client(first.url);
  await fill(http);
  const before = await everything(http);
  http.close();
  await first.stop();
  // On the folder itself, without a server.
  const drained = await longshore(['drain', '--data', data]);
  assert.equal(drained.code, 0, drained.stderr);
  assert.match(drained.stdout, /0 are left; the mirrors of 4 repositories are up to date/);
  throwDatabaseAway(data);

  for (const failpoint of [
    'reindex.begin.after:1',
    'reindex.shard.after:9',
    'reindex.manifests.after:1',
    'reindex.tags.after:2',
    'reindex.end.before:1',
  ]) {
    const killed = await longshore(['reindex', '--data', data], failpoint);
    assert.equal(killed.signal, 'SIGKILL', `${failpoint}: ${killed.stdout}${killed.stderr}`);
  }
  await assert.rejects(startLongshore({ data }), /run "longshore reindex" again/);
  assert.match((await longshore(['gc', 'run', '--data', data])).stderr, /run "longshore reindex" again/);
  const ended = await longshore(['reindex', '--data', data, '--json']);
  assert.equal(ended.code, 0, ended.stderr);
  const { resumed, repositories, lost } = JSON.parse(ended.stdout);
  assert.deepEqual([resumed, repositories, lost], [true, 4, 0]);
  const second = await startLongshore({ data });
  const again = client(second.url);
  assert.deepEqual(await everything(again), before);
  again.close();
  await second.stop();
  assert.deepEqual(disagreements(data), []);

  throwDatabaseAway(data);
  const small = digestOf(Buffer.from('small')).slice(7);
  rmSync(join(data, 'storage/blobs/sha256', small.slice(0, 2), small));
  const partly = await longshore(['reindex', '--data', data, '--no-verify']);
  assert.equal(partly.code, 1, partly.stderr);
  assert.match(
    partly.stderr,
    new RegExp(`lost: app: the blob sha256:${small}, which sha256:.* names, is not in storage`),
  );
  assert.match(partly.stdout, /4 things could not be saved/);
});
