/**
 * PostgreSQL away in every way there is: each request is answered with 503 and Retry-After, the server is not ready
 * meanwhile, and it serves again by itself, having lost nothing. How long each answer took stands in the diagnostics.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { postgresIsThere } from '../../../src/database/postgres/server.testing.ts';
import { type Answer, type Client, client } from '../../support/client.ts';
import { type Image, image, randomPiece } from '../../support/images.ts';
import { startProxy, type TcpProxy } from '../../support/proxy.ts';
import type { Longshore } from '../../support/server.ts';
import { newSetup, postgres, startOne, stopPostgres, until } from './fleet.ts';

/** How long a request may wait before the test gives up; what is wanted is two seconds, and is reported. */
const LIMIT = 60_000;

if (await postgresIsThere()) {
  describe('PostgreSQL away', () => {
    let proxy: TcpProxy;
    let server: Longshore;
    let http: Client;
    let made: Image;
    before(async () => {
      const pg = await postgres();
      const setup = await newSetup();
      proxy = await startProxy(pg.port);
      const url = setup.url.replace(`:${pg.port}/`, `:${proxy.port}/`);
      server = await startOne({ ...setup, url });
      http = client(server.url, {}, 64);
      made = image({ layers: [randomPiece(100), randomPiece(50_000)] });
      await http.pushImage('out/age', made, 'v1');
    });
    after(async () => {
      http.close();
      await server.stop();
      await proxy.close();
      await stopPostgres();
    });

    const timed = async (work: Promise<Answer>): Promise<Answer & { readonly milliseconds: number }> => {
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

    /** One of each kind of request. */
    const asks = (): Promise<Answer>[] => [
      http.send('GET', '/v2/out/age/manifests/v1'),
      http.send('HEAD', `/v2/out/age/blobs/${made.blobs[1]!.digest}`),
      http.send('GET', '/v2/out/age/tags/list'),
      http.send('PUT', '/v2/out/age/manifests/v2', {
        headers: { 'content-type': made.manifest.mediaType },
        body: made.manifest.bytes,
      }),
      http.send('DELETE', '/v2/out/age/manifests/none'),
    ];

    const serves = async (): Promise<void> => {
      await until(
        'serving again',
        async () => (await http.send('GET', '/v2/out/age/manifests/v1')).status,
        (status) => status === 200,
      );
      await until(
        'ready again',
        async () => (await http.send('GET', '/readyz')).status,
        (status) => status === 200,
      );
      // A connection that died meanwhile may still be met once, and is answered with 503.
      const next = image();
      await until(
        'taking again',
        () =>
          http.pushImage('out/age', next, 'after').then(
            () => 'pushed',
            (error: Error) => error.message,
          ),
        (told) => {
          assert.ok(told === 'pushed' || told.includes(': 503 '), told);
          return told === 'pushed';
        },
      );
      assert.equal((await http.hash('/v2/out/age/manifests/after')).digest, next.manifest.digest);
      assert.equal((await http.hash('/v2/out/age/manifests/v1')).digest, made.manifest.digest);
    };

    for (const mode of ['refuse', 'hang', 'reset'] as const) {
      test(`it does: ${mode}`, async (t) => {
        // Connections in use, idle, and none: what hangs finds all three.
        await Promise.all(Array.from({ length: 8 }, () => http.send('GET', '/v2/out/age/manifests/v1')));
        await proxy.set(mode);
        const before = proxy.accepted();
        const since = performance.now();
        for (const crowd of [0, 50]) {
          const more = Array.from({ length: crowd }, () => http.send('GET', '/v2/out/age/manifests/v1'));
          const answers = await Promise.all(
            [...asks(), ...(crowd === 0 ? [] : [http.send('GET', '/readyz')]), ...more].map(timed),
          );
          t.diagnostic(
            `${mode}: ${answers
              .slice(0, 6)
              .map(({ status, milliseconds }) => `${status} in ${milliseconds}`)
              .join(', ')} ms`,
          );
          if (crowd > 0) assert.match(answers[5]!.body.toString(), /"database"/);
          for (const { status, headers } of answers) {
            assert.equal(status, 503);
            assert.match(String(headers['retry-after']), /^[1-9]\d?$/);
          }
        }
        assert.equal((await http.send('GET', '/livez')).status, 200);
        // Never a pile of connections, however many ask: one is tried at a time, and one more that listens.
        const most = 40 * Math.max(1, (performance.now() - since) / 5_000);
        assert.ok(proxy.accepted() - before <= most, `${proxy.accepted() - before} connections, at most ${most}`);
        await proxy.set('pass');
        const began = performance.now();
        await serves();
        t.diagnostic(`${mode}: serving again after ${Math.round(performance.now() - began)} ms`);
      });
    }

    test('connections that are cut between requests are not noticed', async () => {
      for (let round = 0; round < 5; round++) {
        await Promise.all(Array.from({ length: 6 }, () => http.send('GET', '/v2/out/age/manifests/v1')));
        proxy.cut();
        const answers = await Promise.all(asks());
        assert.deepEqual(
          answers.map(({ status }) => status),
          [200, 200, 200, 201, 404],
        );
      }
    });

    test('backends are terminated under load: no wrong answer, and nothing acknowledged is lost', async () => {
      const pg = await postgres();
      const acknowledged: Image[] = [];
      let running = true;
      const pushers = Array.from({ length: 4 }, async (_, index) => {
        while (running) {
          const next = image();
          for (const blob of next.blobs) await http.pushBlob('out/load', blob);
          const { status } = await http.pushManifest('out/load', next.manifest, `t${index}-${acknowledged.length}`);
          // A COMMIT without its answer is 503; a blob that was refused for the same reason is missing then.
          assert.ok([201, 404, 503].includes(status), `${status}`);
          if (status === 201) acknowledged.push(next);
        }
      });
      const readers = Array.from({ length: 4 }, async () => {
        while (running) {
          const { status, digest } = await http.hash('/v2/out/age/manifests/v1');
          assert.ok(status === 503 || digest === made.manifest.digest, `${status}`);
        }
      });
      // Until something was acknowledged, and some rounds in any case.
      for (let round = 0; round < 8 || (acknowledged.length === 0 && round < 100); round++) {
        await pg.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'longshore'");
        if (round >= 8) await new Promise((resolve) => setTimeout(resolve, 10 * round));
      }
      running = false;
      await Promise.all([...pushers, ...readers]);
      assert.ok(acknowledged.length > 0);
      await serves();
      for (const { manifest } of acknowledged) {
        assert.equal((await http.hash(`/v2/out/load/manifests/${manifest.digest}`)).digest, manifest.digest);
      }
    });

    test('the server is restarted', async () => {
      const pg = await postgres();
      await pg.restart();
      await serves();
    });

    test('it has no connection left: those there are serve, the others get 503', async () => {
      const pg = await postgres();
      await pg.restart(['max_connections=5', 'superuser_reserved_connections=1']);
      await serves();
      const crowd = await Promise.all(
        Array.from({ length: 200 }, () => timed(http.send('GET', '/v2/out/age/manifests/v1'))),
      );
      for (const { status } of crowd) assert.ok(status === 200 || status === 503, `${status}`);
      assert.ok(crowd.some(({ status }) => status === 200));
      await pg.restart();
      await serves();
    });

    test('it takes no changes, as a standby after a failover', async () => {
      const pg = await postgres();
      await pg.sql('alter system set default_transaction_read_only = on');
      await pg.sql('select pg_reload_conf()');
      await until(
        'a push refused',
        async () => (await http.pushBlob('out/age', randomPiece(10))).status,
        (status) => status === 503,
      );
      await until(
        'not ready',
        async () => (await http.send('GET', '/readyz')).status,
        (status) => status === 503,
      );
      await pg.sql('set default_transaction_read_only = off', 'alter system reset default_transaction_read_only');
      await pg.sql('select pg_reload_conf()');
      await serves();
    });
  });
}
