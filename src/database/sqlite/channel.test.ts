import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { after, before, test } from 'node:test';
import { FaultError } from '../../oci/error.ts';
import { addRepository, pushOne, script, TEST_COMMANDS } from '../commands.testing.ts';
import { type Opened, openTestSqlite, testOptions } from '../open.testing.ts';
import { joinSqlite, type SqliteDatabase } from '../open.ts';
import type { Channel } from './channel.ts';

type Said = { kind: string; value: unknown };

class Child {
  readonly process: ChildProcess;
  readonly said: Said[] = [];
  #hears: (() => void)[] = [];

  constructor(folder: string) {
    this.process = fork(new URL('./member.testing.ts', import.meta.url), [folder], { serialization: 'advanced' });
    this.process.on('message', (message: Said) => {
      if (message.kind === undefined) return;
      this.said.push(message);
      for (const hear of this.#hears.splice(0)) hear();
    });
  }

  readonly channel: Channel = {
    send: (message) => void this.process.send(message as object),
    onMessage: (listener) => {
      this.process.on('message', listener);
      return () => this.process.off('message', listener);
    },
    onClose: (listener) => {
      this.process.on('disconnect', listener);
      return () => this.process.off('disconnect', listener);
    },
  };

  async hear(kind: string): Promise<unknown> {
    for (;;) {
      const at = this.said.findIndex((said) => said.kind === kind);
      if (at >= 0) return this.said.splice(at, 1)[0]?.value;
      await new Promise<void>((resolve) => this.#hears.push(resolve));
    }
  }

  ask(deed: string): Promise<unknown> {
    this.process.send({ deed });
    return this.hear(deed);
  }
}

let opened: Opened<SqliteDatabase>;
let database: SqliteDatabase;
const children: Child[] = [];

before(async () => {
  opened = await openTestSqlite({
    commands: TEST_COMMANDS,
    writer: new URL('../writer.testing.ts', import.meta.url),
  });
  database = opened.database;
  for (let n = 0; n < 2; n++) {
    const child = new Child(opened.folder);
    database.serve(child.channel);
    children.push(child);
  }
  await Promise.all(children.map((child) => child.hear('ready')));
});
after(async () => {
  for (const { process } of children) if (process.exitCode === null) process.kill('SIGKILL');
  await opened.stop();
});

test('a member runs commands, and everybody hears what it touched', async () => {
  const [one, two] = children as [Child, Child];
  const told: string[] = [];
  const off = database.onTouched((names) => told.push(...names));
  assert.equal(await one.ask('add'), 1);
  assert.deepEqual(told, ['from/member']);
  // Told before its own promise resolved.
  assert.deepEqual(one.said, [{ kind: 'touched', value: ['from/member'] }]);
  assert.deepEqual(await two.hear('touched'), ['from/member']);
  off();
});

test('errors and bytes cross both processes', async () => {
  const [one] = children as [Child, Child];
  assert.deepEqual(await one.ask('fail'), ['RegistryError', 'MANIFEST_BLOB_UNKNOWN', { digests: ['a', 'b'] }]);
  assert.deepEqual(await one.ask('bytes'), [70_000, [1, 2, 3]]);
});

test('a member sees at once what another process committed, and that something was', async () => {
  const [one, two] = children as [Child, Child];
  await two.ask('version');
  assert.equal(await two.ask('version'), false);
  await database.run(addRepository, { name: 'a/b' });
  const digest = new Uint8Array(33).fill(1);
  await database.run(pushOne, { repository: 'a/b', digest, tag: 'v1', bytes: Buffer.from('x') });
  assert.equal(await two.ask('version'), true);
  assert.equal(await two.ask('version'), false);
  assert.equal(await two.ask('hot'), 'text/test');
  assert.deepEqual(await one.ask('see'), [{ name: 'a/b' }, { name: 'from/member' }]);
  assert.equal(await one.ask('ping'), 'there');
});

test('what lies in the second file does not disturb the caches', async () => {
  const [, two] = children as [Child, Child];
  await two.ask('version');
  const text = "insert into job_lease (job_id, owner, fence, until_at) values (9, 'me', 1, 5)";
  await database.run(script, { steps: [{ text }] });
  assert.equal(await two.ask('version'), false);
});

test('the death of a member harms nobody', async () => {
  const [one, two] = children as [Child, Child];
  const gone = new Promise((resolve) => two.process.on('close', resolve));
  two.process.kill('SIGKILL');
  await gone;
  await database.run(addRepository, { name: 'after/death' });
  assert.equal(((await one.ask('see')) as unknown[]).length, 3);
  await one.ask('close');
});

test('a member whose primary is gone, or that asks too much, is refused', async () => {
  const heard: (() => void)[] = [];
  const channel: Channel = {
    send: () => {},
    onMessage: () => () => {},
    onClose(listener) {
      heard.push(listener);
      return () => {};
    },
  };
  const member = await joinSqlite({ ...testOptions({ commands: TEST_COMMANDS }), folder: opened.folder }, channel);
  const waiting = Array.from({ length: 4096 }, () => member.run(addRepository, { name: 'x' }).catch((error) => error));
  await assert.rejects(
    member.run(addRepository, { name: 'x' }),
    (error) => error instanceof FaultError && error.code === 'full',
  );
  for (const close of heard) close();
  for (const error of await Promise.all(waiting)) assert.equal((error as FaultError).code, 'unavailable');
  await assert.rejects(
    member.run(addRepository, { name: 'x' }),
    (error) => error instanceof FaultError && error.code === 'unavailable',
  );
  await member.close();
});
