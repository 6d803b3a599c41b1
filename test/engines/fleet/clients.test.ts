/**
 * Real clients through the balancer of three instances on PostgreSQL and S3, sent to the object store for blobs and
 * served by the instances; and what a redirect promises: who gets one, for how long it is good, that ranges work.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestOf, type Image, image, type Piece, randomPiece, runnableImage } from '../../support/images.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { run, withTools } from '../../support/tools.ts';
import { type Fleet, s3, startFleet, stopEngines, withFleet } from './fleet.ts';
import { fetchBlob } from './load.ts';

const LIFETIME = 10_000;
const EXCEPT = { exceptNetworks: ['10.0.0.0/8'], exceptUserAgents: ['inside/'] };

interface Fetched {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** A request to the address of a redirect, as a client makes it that follows one. */
function follow(url: string, headers: OutgoingHttpHeaders = {}): Promise<Fetched> {
  return new Promise((done, fail) => {
    const asked = request(url, { headers }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('error', fail);
      answer.on('end', () =>
        done({ status: answer.statusCode ?? 0, headers: answer.headers, body: Buffer.concat(chunks) }),
      );
    });
    asked.on('error', fail);
    asked.end();
  });
}

await withFleet('real clients of a fleet', () => {
  after(stopEngines);
  for (const enabled of [true, false]) {
    describe(`three instances, redirects ${enabled ? 'on' : 'off'}`, () => {
      let fleet: Fleet;
      before(async () => {
        const gc = { tick: '1s', deleteAfterTicks: 10 };
        fleet = await startFleet({ config: { gc, storage: { redirect: { enabled, lifetime: '10s', ...EXCEPT } } } });
      });
      after(() => fleet.stop());

      /** A layer large enough for the store, and a small one. */
      const made = (): Image => runnableImage([{ hello: 'hello' }, { data: randomBytes(400_000) }]);
      const isThere = async (name: string, { manifest, blobs }: Image): Promise<void> => {
        for (const one of fleet.clients) {
          assert.equal((await one.hash(`/v2/${name}/manifests/${manifest.digest}`)).digest, manifest.digest);
          for (const { digest, bytes } of blobs)
            assert.equal(await fetchBlob(one, name, digest, false), `200 ${digest} ${bytes.length}`);
        }
      };
      const inLayout = (folder: string, pieces: readonly Piece[]): void => {
        for (const { digest } of pieces)
          assert.equal(digestOf(readFileSync(join(folder, 'blobs', digest.replace(':', '/')))), digest);
      };

      withTools(['crane'], 'crane at a fleet', (crane) => {
        test('crane', async () => {
          const app = made();
          const { host } = fleet.balancer;
          await fleet.http.pushImage('crane/app', app, 'v1');
          const layout = join(temporaryFolder('crane'), 'layout');
          await run(crane, ['pull', '--insecure', '--format=oci', `${host}/crane/app:v1`, layout]);
          inLayout(layout, [app.manifest, ...app.blobs]);
          await run(crane, ['push', '--insecure', layout, `${host}/crane/pushed:v1`]);
          await run(crane, ['copy', '--insecure', `${host}/crane/pushed:v1`, `${host}/crane/copied:v1`]);
          await run(crane, ['validate', '--insecure', '--remote', `${host}/crane/copied:v1`]);
          for (const name of ['crane/pushed', 'crane/copied']) await isThere(name, app);
        });
      });

      withTools(['skopeo'], 'skopeo at a fleet', (skopeo) => {
        test('skopeo', async () => {
          const app = made();
          const { host } = fleet.balancer;
          await fleet.http.pushImage('skopeo/app', app, 'v1');
          const layout = join(temporaryFolder('skopeo'), 'layout');
          const copy = (from: string, to: string): Promise<string> =>
            run(skopeo, [
              ...['--insecure-policy', 'copy', '--preserve-digests'],
              ...['--src-tls-verify=false', '--dest-tls-verify=false', from, to],
            ]);
          await copy(`docker://${host}/skopeo/app:v1`, `oci:${layout}:v1`);
          inLayout(layout, [app.manifest, ...app.blobs]);
          await copy(`oci:${layout}:v1`, `docker://${host}/skopeo/pushed:v1`);
          await isThere('skopeo/pushed', app);
        });
      });

      withTools(['regctl'], 'regctl at a fleet', (regctl) => {
        test('regctl, in chunks', async () => {
          const app = made();
          const { host } = fleet.balancer;
          const reg = ['--host', `reg=${host},tls=disabled,blobMax=65536,blobChunk=100000`];
          await fleet.http.pushImage('regctl/app', app, 'v1');
          const layout = join(temporaryFolder('regctl'), 'layout');
          await run(regctl, [...reg, 'image', 'copy', `${host}/regctl/app:v1`, `ocidir://${layout}:v1`]);
          inLayout(layout, [app.manifest, ...app.blobs]);
          await run(regctl, [...reg, 'image', 'copy', `ocidir://${layout}:v1`, `${host}/regctl/pushed:v1`]);
          await isThere('regctl/pushed', app);
        });
      });

      withTools(['oras'], 'oras at a fleet', (oras) => {
        test('oras', async () => {
          const { host } = fleet.balancer;
          const cwd = temporaryFolder('oras');
          const notes = randomBytes(300_000);
          writeFileSync(join(cwd, 'notes.bin'), notes);
          await run(oras, ['push', '--plain-http', `${host}/oras/notes:v1`, 'notes.bin'], { cwd });
          mkdirSync(join(cwd, 'out'));
          await run(oras, ['pull', '--plain-http', `${host}/oras/notes:v1`, '-o', 'out'], { cwd });
          assert.deepEqual(readFileSync(join(cwd, 'out/notes.bin')), notes);
        });
      });

      test('who is sent to the store', async () => {
        const { endpoint } = await s3();
        const large = randomPiece(300_000);
        const app = image({ layers: [large] });
        await fleet.http.pushImage('redirect/app', app, 'v1');
        const path = `/v2/redirect/app/blobs/${large.digest}`;
        for (const one of [fleet.http, ...fleet.clients]) {
          const head = await one.send('HEAD', path);
          assert.equal(head.status, 200);
          assert.equal(head.headers['content-length'], '300000');
          const answer = await one.send('GET', path);
          assert.equal(answer.status, enabled ? 307 : 200);
          const location = String(answer.headers.location);
          if (enabled) assert.ok(location.startsWith(`${endpoint}/`), location);
          else assert.deepEqual(answer.body, Buffer.from(large.bytes));
          // As one that was passed on by a trusted balancer, and by its own name.
          const excepted: OutgoingHttpHeaders[] = [{ 'x-forwarded-for': '10.1.2.3' }, { 'user-agent': 'inside/2.0' }];
          for (const headers of excepted) {
            const direct = await one.send('GET', path, { headers });
            assert.equal(direct.status, 200, JSON.stringify(headers));
            assert.equal(digestOf(direct.body), large.digest);
            const part = await one.send('GET', path, { headers: { ...headers, range: 'bytes=1000-1999' } });
            assert.equal(part.status, 206);
            assert.equal(part.headers['content-range'], 'bytes 1000-1999/300000');
            assert.deepEqual(part.body, Buffer.from(large.bytes.subarray(1000, 2000)));
          }
          const other = { 'x-forwarded-for': '11.1.2.3', 'user-agent': 'outside inside/2.0' };
          assert.equal((await one.send('GET', path, { headers: other })).status, enabled ? 307 : 200);
          // What lies in the database is never elsewhere.
          assert.equal((await one.send('GET', `/v2/redirect/app/blobs/${app.blobs[0]!.digest}`)).status, 200);
          assert.equal((await one.send('GET', `/v2/redirect/other/blobs/${large.digest}`)).status, 404);
        }
      });

      if (enabled) {
        test('an address is good for its bytes, for ranges of them, for nothing else, and not for long', async () => {
          const large = randomPiece(300_000);
          assert.equal((await fleet.http.pushBlob('redirect/url', large)).status, 201);
          const path = `/v2/redirect/url/blobs/${large.digest}`;
          const answer = await fleet.http.send('GET', path, { headers: { range: 'bytes=5-9' } });
          assert.equal(answer.status, 307);
          assert.match(String(answer.headers['cache-control']), /no-store/);
          assert.equal(answer.headers['docker-content-digest'], large.digest);
          const url = String(answer.headers.location);
          const issued = performance.now();
          const whole = await follow(url);
          assert.equal(whole.status, 200);
          assert.equal(digestOf(whole.body), large.digest);
          for (const [range, from, to] of [
            ['bytes=5-9', 5, 10],
            ['bytes=299990-', 299_990, 300_000],
            ['bytes=-7', 299_993, 300_000],
          ] as const) {
            const part = await follow(url, { range });
            assert.equal(part.status, 206, range);
            assert.equal(part.headers['content-range'], `bytes ${from}-${to - 1}/300000`);
            assert.deepEqual(part.body, Buffer.from(large.bytes.subarray(from, to)));
          }
          const { searchParams } = new URL(url);
          assert.ok(Number(searchParams.get('X-Amz-Expires')) * 1000 <= LIFETIME, url);
          assert.ok(!url.includes('secret'));
          const longer = new URL(url);
          longer.searchParams.set('X-Amz-Expires', '86400');
          const another = new URL(url);
          another.pathname = another.pathname.replace(/.$/, (last) => (last === '0' ? '1' : '0'));
          for (const forged of [longer, another]) assert.equal((await follow(forged.href)).status, 403, forged.href);
          await sleep(Math.max(0, LIFETIME + 1_500 - (performance.now() - issued)));
          assert.equal((await follow(url)).status, 403);
          const again = await fleet.http.send('GET', path);
          assert.equal((await follow(String(again.headers.location))).status, 200);
        });

        test('after a DELETE no address is given any more', async () => {
          const large = randomPiece(200_000);
          assert.equal((await fleet.clients[0]!.pushBlob('redirect/gone', large)).status, 201);
          const path = `/v2/redirect/gone/blobs/${large.digest}`;
          for (const one of fleet.clients) assert.equal((await one.send('GET', path)).status, 307);
          assert.equal((await fleet.clients[1]!.send('DELETE', path)).status, 202);
          for (const one of fleet.clients) assert.equal((await one.send('GET', path)).status, 404);
        });
      }
    });
  }
});
