/** Several real servers over one PostgreSQL and one shared folder of files. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startPostgres, type TestServer } from '../../../src/database/postgres/server.testing.ts';
import { type Longshore, longshoreCommand, startLongshore } from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { type Ran, runAny } from '../../support/tools.ts';

let server: Promise<TestServer> | undefined;
let count = 0;

/** The one PostgreSQL of this test file; `stopPostgres` ends it. */
export function postgres(): Promise<TestServer> {
  server ??= startPostgres();
  return server;
}

/** Ends it. */
export async function stopPostgres(): Promise<void> {
  await (await server)?.stop();
  server = undefined;
}

/** What every server of a fleet is given. */
export interface Setup {
  /** The database, an empty one if absent. */
  readonly url: string;
  readonly storage: string;
}

/** A database and a folder of its own. */
export async function newSetup(): Promise<Setup> {
  return { url: await (await postgres()).database(`fleet${++count}`), storage: temporaryFolder('shared') };
}

/** The configuration of a server of the fleet, with `more` sections. */
export function configOf({ url, storage }: Setup, more: object = {}): Record<string, unknown> {
  return {
    database: { url, connections: 6 },
    storage: { fs: { root: storage } },
    access: { anonymous: 'push' },
    log: { access: false },
    ...more,
  };
}

/** Starts one; each has a data folder of its own, in which nothing lies. */
export function startOne(setup: Setup, more: object = {}): Promise<Longshore> {
  return startLongshore({ config: configOf(setup, more) });
}

/** Runs a command of the command line beside the fleet. */
export function command(setup: Setup, args: readonly string[], input?: string): Promise<Ran> {
  const [program = '', ...rest] = longshoreCommand();
  return runAny(program, [...rest, ...args, '--data', join(temporaryFolder('cli'), 'none')], {
    env: { LONGSHORE_DATABASE_URL: setup.url, LONGSHORE_STORAGE_FS_ROOT: setup.storage },
    ...(input === undefined ? {} : { input }),
  });
}

/** Asks until the answer is right; throws with the last one after two minutes. */
export async function until<T>(what: string, ask: () => Promise<T>, right: (answer: T) => boolean): Promise<T> {
  const end = performance.now() + 120_000;
  for (;;) {
    const answer = await ask();
    if (right(answer)) return answer;
    if (performance.now() > end) throw new Error(`${what}: still ${JSON.stringify(answer)}`);
    await sleep(50);
  }
}
