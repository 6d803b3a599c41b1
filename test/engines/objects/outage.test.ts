/**
 * The object store away in every way there is, seen from clients of a whole server: what needs the store is answered
 * with 503 and Retry-After in bounded time, what does not goes on, the server is not ready meanwhile and serves again by
 * itself. Nothing acknowledged is lost, and no wrong bytes are served as a whole answer. How long each answer took
 * stands in the diagnostics; two seconds are wanted.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Breakage, type BrokenProxy, brokenProxy } from '../../../src/storage/objects/broken-proxy.testing.ts';
import { type S3Server, startS3, withS3 } from '../../../src/storage/s3/server.testing.ts';
import { type Answer, type Client, client } from '../../support/client.ts';
import { image, type Piece, randomPiece } from '../../support/images.ts';
import { type Longshore, startLongshore } from '../../support/server.ts';
import { until } from '../fleet/fleet.ts';

/** How long anything may take before the test gives up, milliseconds: a machine with much else to do is slow. */
const LIMIT = 120_000;
const NAME = 'out/age';
const LARGE = 2_000_000;

type Timed = Answer & { readonly milliseconds: number };

withS3('an object store that is away', () =>
  describe('an object store that is away', () => {
    let store: S3Server;
    let proxy: BrokenProxy;
    let server: Longshore;
    let http: Client;
    const acknowledged: Piece[] = [];
    before(async () => {
      store = await startS3();
      proxy = await brokenProxy(store.endpoint);
      const { driver, ...s3 } = await store.bucket('outage');
      const storage = { driver, s3: { ...s3, endpoint: proxy.endpoint }, redirect: { enabled: false } };
      server = await startLongshore({ config: { storage, log: { access: false } } });
      http = client(server.url, {}, 64);
      await push(randomPiece(LARGE));
      await push(randomPiece(50_000));
      await http.pushImage(NAME, small, 'small');
    });
    after(async () => {
      http.close();
      await server.stop();
      await proxy.stop();
      await store.stop();
    });

    /** An image of which all is in the database. */
    const small = image({ layers: [randomPiece(100)] });

    /** Pushed, once more where the answer asks for that: a store that works may still refuse one request of many. */
    async function push(blob: Piece): Promise<void> {
      let answer = await http.pushBlob(NAME, blob);
      for (let tries = 0; tries < 5 && answer.status === 503; tries++) {
        await sleep(1_000 * Number(answer.headers['retry-after']));
        answer = await http.pushBlob(NAME, blob);
      }
      assert.equal(answer.status, 201, answer.body.toString());
      acknowledged.push(blob);
    }

    const timed = async (work: Promise<Answer>): Promise<Timed> => {
      const began = performance.now();
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error('no answer')), LIMIT);
      });
      try {
        return { ...(await Promise.race([work, late])), milliseconds: Math.round(performance.now() - began) };
      } finally {
        clearTimeout(timer);
      }
    };
    const octets = { 'content-type': 'application/octet-stream' };
    const patch = async (blob: Piece): Promise<Answer> => {
      const begun = await http.send('POST', `/v2/${NAME}/blobs/uploads/`);
      assert.equal(begun.status, 202);
      const { pathname } = new URL(begun.headers.location!, server.url);
      return http.send('PATCH', pathname, { headers: octets, body: blob.bytes });
    };
    /** Each way to need the store. */
    const asks = (): Record<string, Promise<Answer>> => ({
      'GET of a large blob': http.send('GET', `/v2/${NAME}/blobs/${acknowledged[0]!.digest}`),
      'GET of a range': http.send('GET', `/v2/${NAME}/blobs/${acknowledged[0]!.digest}`, {
        headers: { range: 'bytes=1000-1999' },
      }),
      'push in one request': http.pushBlob(NAME, randomPiece(LARGE)),
      'PATCH of much': patch(randomPiece(LARGE)),
      'PATCH of little': patch(randomPiece(40_000)),
    });

    /** Everything that was acknowledged, to the byte; and new things can be pushed. */
    async function serves(): Promise<number> {
      const began = performance.now();
      await until(
        'ready again',
        async () => (await http.send('GET', '/readyz')).status,
        (status) => status === 200,
      );
      const took = Math.round(performance.now() - began);
      await until(
        'taking again',
        async () => (await http.pushBlob(NAME, randomPiece(50_000))).status,
        (status) => status === 201,
      );
      await push(randomPiece(LARGE));
      for (const { digest, bytes } of acknowledged) {
        assert.deepEqual(await http.hash(`/v2/${NAME}/blobs/${digest}`), { status: 200, size: bytes.length, digest });
      }
      return took;
    }

    const everything: Readonly<Record<string, Breakage>> = {
      'it hangs': 'hang',
      'it resets connections': 'reset',
      'it answers 500': { status: 500 },
      'it answers 503': { status: 503 },
      'it answers with a page of somebody else': { status: 404, body: '<html>no such host</html>' },
    };
    for (const [what, breakage] of Object.entries(everything)) {
      test(what, async (t) => {
        proxy.rule = () => breakage;
        const asked = Object.entries(asks());
        const answers = await Promise.all(asked.map(([, answer]) => timed(answer)));
        t.diagnostic(
          asked.map(([name], at) => `${name}: ${answers[at]!.status} in ${answers[at]!.milliseconds} ms`).join(', '),
        );
        for (const [at, { status, headers, body }] of answers.entries()) {
          assert.equal(status, 503, `${asked[at]![0]}: ${body}`);
          assert.match(String(headers['retry-after']), /^[1-9]\d?$/, asked[at]![0]);
          assert.doesNotMatch(body.toString(), /secret|X-Amz|127\.0\.0\.1/i);
        }
        await until(
          'not ready',
          async () => (await http.send('GET', '/readyz')).status,
          (status) => status === 503,
        );
        assert.match((await http.send('GET', '/readyz')).body.toString(), /"storage"/);
        // What lies in the database is served and taken meanwhile.
        assert.equal((await http.hash(`/v2/${NAME}/manifests/small`)).digest, small.manifest.digest);
        assert.equal((await http.send('HEAD', `/v2/${NAME}/blobs/${acknowledged[0]!.digest}`)).status, 200);
        await http.pushImage(NAME, image({ layers: [randomPiece(200)] }), 'meanwhile');
        proxy.rule = () => 'pass';
        t.diagnostic(`ready again after ${await serves()} ms`);
      });
    }

    for (const [what, breakage] of [
      ['bodies are reset in the middle', 'cut-body'],
      ['bodies stop in the middle', 'stall-body'],
    ] as const) {
      test(`${what}: no answer is whole and wrong`, async (t) => {
        const fresh = randomPiece(LARGE);
        await push(fresh);
        proxy.rule = ({ method, url }) => (method === 'GET' && url?.includes('/blobs/') === true ? breakage : 'pass');
        const began = performance.now();
        const reads = Promise.allSettled([
          http.hash(`/v2/${NAME}/blobs/${fresh.digest}`),
          http.send('GET', `/v2/${NAME}/blobs/${fresh.digest}`, { headers: { range: 'bytes=10-1500000' } }),
        ]);
        // A client gives up where nothing comes any more.
        const hangUp = setTimeout(() => http.close(), 5_000);
        const [got, part] = await reads;
        clearTimeout(hangUp);
        t.diagnostic(`${what}: after ${Math.round(performance.now() - began)} ms`);
        // Broken off, or refused where the store broke off before the first byte: never whole.
        for (const read of [got, part])
          assert.ok(read.status === 'rejected' || read.value.status === 503, JSON.stringify(read).slice(0, 200));
        proxy.rule = () => 'pass';
        await serves();
      });
    }

    test('the answers to PUT are lost: a push succeeds or is 503, and what was acknowledged is whole', async () => {
      let lost = 0;
      proxy.rule = ({ method }) => (method === 'PUT' && lost++ % 3 !== 2 ? 'lost-answer' : 'pass');
      for (let round = 0; round < 12; round++) {
        const blob = randomPiece(round % 2 === 0 ? LARGE : 40_000);
        const { status, body } = await timed(http.pushBlob(NAME, blob));
        assert.ok(status === 201 || status === 503, `${status} ${body}`);
        if (status === 201) acknowledged.push(blob);
        else assert.equal((await http.send('HEAD', `/v2/${NAME}/blobs/${blob.digest}`)).status, 404);
      }
      assert.ok(lost > 12);
      proxy.rule = () => 'pass';
      await serves();
    });

    test('the answers to DELETE are lost: uploads end as ever, and deleted blobs stay deleted', async () => {
      let lost = 0;
      proxy.rule = ({ method, url }) => {
        if (method !== 'DELETE' && !(method === 'POST' && url?.includes('delete') === true)) return 'pass';
        lost++;
        return 'lost-answer';
      };
      for (let round = 0; round < 4; round++) await push(randomPiece(LARGE));
      const gone = acknowledged.splice(0, 2);
      for (const { digest } of gone) {
        assert.equal((await timed(http.send('DELETE', `/v2/${NAME}/blobs/${digest}`))).status, 202);
        assert.equal((await http.send('GET', `/v2/${NAME}/blobs/${digest}`)).status, 404);
      }
      await until(
        'a lost answer',
        async () => lost,
        (count) => count > 0,
      );
      proxy.rule = () => 'pass';
      await serves();
      for (const { digest } of gone) assert.equal((await http.send('GET', `/v2/${NAME}/blobs/${digest}`)).status, 404);
    });

    test('a store that comes and goes under load: every answer is right or 503', async (t) => {
      let turn = 0;
      proxy.rule = () =>
        (['pass', 'pass', 'reset', 'pass', { status: 500 }, 'pass', 'lost-answer'] as const)[turn++ % 7]!;
      const seen = new Map<number, number>();
      const worker = async (): Promise<void> => {
        for (let round = 0; round < 8; round++) {
          const blob = randomPiece(40_000 + 400_000 * (round % 3));
          const { status, body } = await timed(
            round % 2 === 0 ? http.pushBlob(NAME, blob) : http.pushChunked(NAME, blob, 300_000),
          );
          seen.set(status, (seen.get(status) ?? 0) + 1);
          assert.ok([201, 503].includes(status), `${status} ${body}`);
          if (status !== 201) continue;
          acknowledged.push(blob);
          const read = await http.hash(`/v2/${NAME}/blobs/${blob.digest}`).catch(() => undefined);
          // Broken off, or 503, or right.
          if (read !== undefined && read.status !== 503)
            assert.deepEqual([read.status, read.digest], [200, blob.digest]);
        }
      };
      await Promise.all(Array.from({ length: 4 }, worker));
      t.diagnostic(`answers ${JSON.stringify([...seen])}`);
      assert.ok((seen.get(201) ?? 0) > 0);
      proxy.rule = () => 'pass';
      await serves();
    });
  }),
);
