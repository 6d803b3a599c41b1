/** Threat cases 68 and 78: password work is bounded, and tells nothing. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { openPasswords } from '../../../src/access/password.ts';
import { startLongshore } from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { type Answer, basic, bearer, expectStatus, get, pushImage, token } from '../support/oci.ts';
import { addUser, closed, PASSWORDS } from '../support/open.ts';
import { eventually, head, Wire } from '../support/wire.ts';

const server = await closed();
const alice = basic('alice', PASSWORDS.alice);
await pushImage(server, 'team/app', 'v1', { headers: alice });
const jwt = bearer(await token(server, ['repository:team/app:pull'], alice));

const processorTicks = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return Number(fields[11]) + Number(fields[12]);
};

describe('logins', { concurrency: 1 }, () => {
  it('T68 200 wrong logins at once: some are refused for now, none is let in, tokens are served before they end', async () => {
    let ended = 0;
    const flood = Array.from({ length: 200 }, (_, i) =>
      get(server, '/token', basic(`flood${i}`, `wrong ${i}`)).finally(() => {
        ended += 1;
      }),
    );
    let servedMeanwhile = 0;
    while (ended < 200) {
      expectStatus(await get(server, '/v2/team/app/manifests/v1', jwt), 200);
      if (ended < 200) servedMeanwhile += 1;
    }
    const answers = await Promise.all(flood);
    assert.ok(servedMeanwhile > 0, 'nothing was served while passwords were hashed');
    const statuses = new Set(answers.map((answer) => answer.status));
    for (const status of statuses) assert.ok([401, 429, 503].includes(status), String(status));
    assert.ok(statuses.has(429) || statuses.has(503), 'nothing was bounded');
    assert.ok(statuses.has(401), 'nothing was checked');
    for (const answer of answers) if (answer.status !== 401) assert.ok(Number(answer.header('retry-after')) >= 1);
    expectStatus(await get(server, '/token', alice), 200);
  });

  it('T68 a place is held until its hash has ended, though whoever asked has gone; a long password is no work', async () => {
    let running = 0;
    const passwords = openPasswords({ atOnce: 1, queue: 2 });
    try {
      const asked = [1, 2, 3, 4, 5].map((i) => passwords.hash(`password ${i}`));
      const load = passwords.load();
      assert.deepEqual(load, { running: 1, waiting: 2 });
      const outcomes = await Promise.allSettled(asked);
      running = outcomes.filter((outcome) => outcome.status === 'fulfilled').length;
      assert.equal(running, 3);
      for (const outcome of outcomes)
        if (outcome.status === 'rejected') assert.equal(outcome.reason.code, 'TOOMANYREQUESTS');
      assert.deepEqual(passwords.load(), { running: 0, waiting: 0 });
      const hash = await passwords.hash('right');
      const long = passwords.verify('x'.repeat(1025), hash);
      assert.deepEqual(passwords.load(), { running: 0, waiting: 0 });
      assert.equal(await long, false);
    } finally {
      await passwords.close();
    }
    // Clients that leave at once do not get the server to hash more than its queue holds.
    for (let i = 0; i < 150; i += 1) {
      const wire = await Wire.connect(server);
      await wire.send(head('GET', '/token', [`Authorization: ${basic(`gone${i}`, 'x').authorization}`]));
      wire.destroy();
    }
    expectStatus(await get(server, '/v2/team/app/manifests/v1', jwt), 200);
  });

  /** An answer that is about the credentials: the logins of the tests before may still be in the queue. */
  const settled = (path: string, headers: Record<string, string>): Promise<Answer> =>
    eventually('the queue of logins is empty', async () => {
      const answer = await get(server, path, headers);
      return answer.status === 429 ? undefined : answer;
    });

  const shape = (answer: Answer): unknown => ({
    status: answer.status,
    headers: answer.rawHeaders.filter(([name]) => name !== 'date' && name !== 'x-request-id'),
    body: answer.text(),
  });

  it('T78 an unknown user, a wrong password and a disabled-looking name are answered alike', async () => {
    for (const path of [
      '/token?scope=repository:team/app:pull',
      '/v2/',
      '/v2/team/app/manifests/v1',
      '/v2/alice/none/tags/list',
    ]) {
      const known = shape(await settled(path, basic('alice', 'wrong password')));
      for (const name of ['nobody', 'zzz', 'a'.repeat(200), 'Alice', '*', 'admin']) {
        assert.deepEqual(shape(await settled(path, basic(name, 'wrong password'))), known, `${name} at ${path}`);
      }
    }
  });

  it('T78 an unknown user costs the same work as a wrong password', async () => {
    const data = temporaryFolder('data');
    await addUser(data, 'known', 'the known password');
    const own = await startLongshore({ data, config: { access: { anonymous: 'none' } } });
    try {
      const cost = async (name: string): Promise<number> => {
        const before = processorTicks(own.pid);
        for (let i = 0; i < 12; i += 1) expectStatus(await get(own, '/token', basic(name, `wrong ${name} ${i}`)), 401);
        return processorTicks(own.pid) - before;
      };
      await cost('warm');
      const wrong = await cost('known');
      const unknown = await cost('unknown');
      // A missing hash would be a small part of it; this is work done by the processor, not time passed.
      assert.ok(unknown * 3 > wrong && wrong * 3 > unknown, `unknown ${unknown}, wrong ${wrong} ticks`);
    } finally {
      await own.kill();
    }
  });

  it('T78 a wrong token is told alike whatever is wrong with it', async () => {
    const parts = jwt.authorization!.slice(7).split('.');
    const tokens = [
      'x',
      'a.b.c',
      `${parts[0]}.${parts[1]}.${'A'.repeat(86)}`,
      `${parts[0]}.e30.${parts[2]}`,
      `e30.${parts[1]}.${parts[2]}`,
    ];
    const shapes = await Promise.all(
      tokens.map(async (text) => shape(await get(server, '/v2/team/app/manifests/v1', bearer(text)))),
    );
    for (const one of shapes) assert.deepEqual(one, shapes[0]);
  });
});
