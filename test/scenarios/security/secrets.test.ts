/** Threat cases 76 and 77: secrets in logs, forged log lines, who may read metrics. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { temporaryFolder } from '../../support/temp.ts';
import { basic, bearer, expectStatus, get, OCI_MANIFEST, pushImage } from '../support/oci.ts';
import { addUser, cli, closed, open, PASSWORDS } from '../support/open.ts';
import { type Answer, ask, eventually, head, rawAsk } from '../support/wire.ts';

/** Looks for any of the canaries in a text; each also as its base64. */
function leaks(text: string, canaries: readonly string[]): string[] {
  return canaries.filter(
    (canary) => text.includes(canary) || text.includes(Buffer.from(canary).toString('base64').replace(/=+$/, '')),
  );
}

describe('secrets', { concurrency: true }, () => {
  it('T76 no secret that goes in comes out: not in logs, errors, metrics or the command line', async () => {
    const data = temporaryFolder('data');
    const canary = {
      password: 'canary-password-7f3a',
      wrong: 'canary-wrong-81c2',
      bearer: 'canary-bearer-55d0',
      query: 'canary-query-92ee',
      form: 'canary-form-1b6d',
      refresh: 'canary-refresh-d4f8',
      cookie: 'canary-cookie-6e21',
      url: 'canary-url-a7b3',
      metrics: 'canary-metrics-0c9a-long',
      signature: 'canary-signature-3d5e',
    };
    const canaries = Object.values(canary);
    await addUser(data, 'alice', canary.password);
    const accessLog = join(data, 'access.log');
    const server = await open({
      data,
      config: { access: { anonymous: 'none' }, log: { level: 'debug', access: accessLog } },
      env: { LONGSHORE_SERVER_METRICS_TOKEN: canary.metrics },
    });
    const answers: Answer[] = [];
    const add = async (method: string, path: string, options: Parameters<typeof ask>[3] = {}): Promise<Answer> => {
      const answer = await ask(server, method, path, options);
      answers.push(answer);
      return answer;
    };
    const form = (body: string): Parameters<typeof ask>[3] => ({
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body,
    });
    const alice = basic('alice', canary.password);
    expectStatus(await add('GET', '/v2/', { headers: alice }), 200);
    const issued = (await get(server, '/token?offline_token=true&scope=repository:a/b:pull,push', alice)).json();
    const live = [issued.token as string, issued.refresh_token as string];
    expectStatus(await add('GET', '/v2/a/b/tags/list', { headers: bearer(live[0]!) }), 404);
    await pushImage(server, 'a/b', 'v1', { headers: bearer(live[0]!) });
    await add('GET', '/v2/', { headers: basic('alice', canary.wrong) });
    await add('GET', '/token', { headers: basic('nobody', canary.wrong) });
    await add('GET', '/v2/a/b/manifests/v1', { headers: bearer(canary.bearer) });
    await add('GET', '/v2/', { headers: { authorization: `Custom ${canary.bearer}` } });
    await add('GET', '/v2/', { headers: { authorization: canary.bearer } });
    await add('GET', '/v2/', {
      headers: {
        cookie: `session=${canary.cookie}`,
        'x-api-key': canary.cookie,
        'proxy-authorization': `Basic ${canary.cookie}`,
      },
    });
    for (const name of ['access_token', 'token', 'password', 'refresh_token', 'client_secret']) {
      await add('GET', `/v2/a/b/manifests/v1?${name}=${canary.query}`);
      await add('GET', `/token?${name}=${canary.query}&service=longshore`);
    }
    for (const name of ['X-Amz-Signature', 'X-Amz-Credential', 'X-Amz-Security-Token', 'X-Goog-Signature', 'sig'])
      await add('GET', `/v2/a/b/manifests/v1?${name}=${canary.signature}`);
    await add('GET', '/v2/', {
      headers: {
        referer: `https://user:${canary.url}@host.example/`,
        'user-agent': `x https://user:${canary.url}@host.example/`,
      },
    });
    await add('POST', '/token', form(`grant_type=password&username=alice&password=${canary.form}&service=longshore`));
    await add('POST', '/token', form(`grant_type=refresh_token&refresh_token=${canary.refresh}&service=longshore`));
    expectStatus(
      await ask(server, 'POST', '/token', form(`grant_type=refresh_token&refresh_token=${live[1]}&service=longshore`)),
      200,
    );
    await add('POST', '/token', form(`grant_type=${canary.form}`));
    await add('POST', '/token', {
      headers: { 'content-type': 'application/json' },
      body: `{"password":"${canary.form}"`,
    });
    answers.push(
      await rawAsk(server, `GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ${canary.bearer}\u0000\r\n\r\n`),
    );
    answers.push(
      await rawAsk(server, head('GET', '/v2/', [`Authorization: Basic ${'A'.repeat(20_000)}${canary.bearer}`])),
    );
    const metrics = await get(server, '/metrics', bearer(canary.metrics));
    expectStatus(metrics, 200);
    for (const path of ['/livez', '/readyz']) answers.push(await get(server, path));
    await eventually('the access log has all of it', () =>
      readFileSync(accessLog, 'utf8').includes('refresh_token') ? true : undefined,
    );
    const listed = await cli(['config', 'show', '--data', data]).catch(() => ({ output: '' }));
    const places: [string, string][] = [
      ['the log', server.output()],
      ['the access log', readFileSync(accessLog, 'utf8')],
      ['the metrics', metrics.text()],
      ['the command line', listed.output],
      ...answers.map((answer, i): [string, string] => [
        `answer ${i}`,
        JSON.stringify(answer.rawHeaders) + answer.text(),
      ]),
    ];
    const leaked = places.flatMap(([place, text]) => leaks(text, canaries).map((canary) => `${canary} in ${place}`));
    assert.deepEqual(leaked, []);
    for (const [place, text] of places) {
      for (const secret of live) assert.ok(!text.includes(secret), `${place} has a live token`);
      assert.doesNotMatch(text, /\$argon2id\$|PRIVATE KEY/, place);
      if (place.startsWith('answer')) assert.doesNotMatch(text, /\.ts:\d+:\d+|node_modules|\/src\//, place);
    }
  });

  it('T76 a password given on the command line is refused or hidden, and one on standard input is not echoed', async () => {
    const data = temporaryFolder('data');
    const { output } = await cli(['user', 'add', 'someone', '--data', data], 'canary-stdin-4411\n');
    assert.ok(!output.includes('canary-stdin-4411'));
    const short = await cli(['user', 'add', 'other', '--data', data], 'canary\n');
    assert.notEqual(short.code, 0);
    assert.ok(!short.output.includes('canary'));
  });

  it('T77 line ends, escapes and directions in what a client says make no line of their own', async () => {
    const server = await closed();
    const nasty = [
      '%0d%0a{"level":"error","message":"forged"}',
      '%1b[31mred%1b[0m',
      '%E2%80%AEevil',
      '%00',
      '%C2%85next',
      '%E2%80%A8line',
    ];
    for (const text of nasty) {
      await get(server, `/v2/t77/manifests/${text}`);
      await get(server, `/v2/t77/tags/list?last=${text}`);
      await get(server, '/v2/', basic(`user\r\n{"forged":1}${decodeURIComponent(text)}`, 'x'));
      await get(server, `/v2/t77-${text}/tags/list`);
    }
    for (const agent of [
      'agent\u001b[2J',
      'a\u0085b',
      '{"forged":true}',
      '"},{"forged":1',
      '\\", "x": "',
      'x'.repeat(4000),
    ]) {
      await rawAsk(server, Buffer.from(head('GET', '/v2/', [`User-Agent: ${agent}`]), 'latin1'));
    }
    await get(server, '/v2/t77-last/tags/list', basic('alice', PASSWORDS.alice));
    await eventually('the last line is written', () => (server.output().includes('t77-last') ? true : undefined));
    const lines = server
      .output()
      .split('\n')
      .filter((line) => line.startsWith('{'));
    assert.ok(lines.length > 20);
    for (const line of server.output().split('\n')) {
      assert.doesNotMatch(line, /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e]/, JSON.stringify(line));
      if (!line.startsWith('{')) assert.doesNotMatch(line, /forged/);
    }
    for (const line of lines) {
      const entry = JSON.parse(line);
      assert.equal(entry.forged, undefined, line);
      assert.notEqual(entry.message ?? entry.msg, 'forged', line);
    }
  });

  it('T77 metrics and details need their own right', async () => {
    const server = await closed({ config: { server: { metricsToken: 'metrics-token-of-the-test' } } });
    const alice = basic('alice', PASSWORDS.alice);
    for (const headers of [
      {},
      alice,
      bearer('wrong'),
      bearer('metrics-token-of-the-tes'),
      { authorization: 'metrics-token-of-the-test' },
    ]) {
      const answer = await get(server, '/metrics', headers as Record<string, string>);
      assert.ok([401, 403].includes(answer.status), String(answer.status));
      assert.doesNotMatch(answer.text(), /# HELP/);
    }
    const metrics = await get(server, '/metrics', bearer('metrics-token-of-the-test'));
    expectStatus(metrics, 200);
    assert.match(metrics.text(), /# HELP/);
    const local = await closed();
    expectStatus(await get(local, '/metrics'), 200);
    for (const header of ['x-forwarded-for', 'forwarded', 'via', 'x-real-ip']) {
      const answer = await get(local, '/metrics', {
        [header]: header === 'forwarded' ? 'for=203.0.113.5' : '203.0.113.5',
      });
      assert.equal(answer.status, 403, header);
    }
    for (const path of [
      '/debug',
      '/debug/pprof',
      '/debug/vars',
      '/health',
      '/status',
      '/admin',
      '/.env',
      '/metrics/',
      '//metrics',
      '/v2/metrics',
      '/server-status',
    ]) {
      const answer = await rawAsk(local, head('GET', path));
      assert.ok([400, 401, 404].includes(answer.status), `${path}: ${answer.status}`);
    }
    for (const path of ['/livez', '/readyz']) {
      const answer = await get(local, path);
      assert.equal(answer.status, 200);
      assert.doesNotMatch(answer.text(), /sqlite|\/tmp|stack|version/i, path);
    }
  });

  it('T77 metric labels do not grow with what clients say', async () => {
    const server = await open();
    // What requests are counted by; jobs have series of their own, which come when they first run.
    const series = async (): Promise<string[]> =>
      (await get(server, '/metrics'))
        .text()
        .split('\n')
        .filter((line) => /^longshore_\w*request/.test(line) && !line.includes('route="metrics"'))
        .map((line) => line.replace(/ [^ ]+$/, ''))
        .sort();
    await pushImage(server, 't77/m', 'v1');
    for (const method of ['GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS'])
      await ask(server, method, '/v2/t77/x/manifests/none', { headers: { 'content-type': OCI_MANIFEST } });
    const sweep = async (mark: string): Promise<void> => {
      for (let i = 0; i < 60; i += 1) {
        await get(server, `/v2/${mark}${i}/manifests/t${i}`, { 'user-agent': `agent-${mark}${i}` });
        await get(server, `/v2/${mark}${i}/nonsense${i}`);
        await get(server, `/other/${mark}${i}`);
        await get(server, '/v2/', basic(`${mark}${i}`, ''));
      }
    };
    await sweep('a');
    const before = await series();
    await sweep('b');
    assert.ok(before.length > 0);
    assert.deepEqual(await series(), before);
    assert.doesNotMatch((await get(server, '/metrics')).text(), /agent-|nonsense\d|[ab]\d+[/"]/);
  });
});
