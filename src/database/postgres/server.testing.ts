/** A PostgreSQL server of one's own for tests: Debian's programs, a folder that is removed afterwards. */
import { execFile } from 'node:child_process';
import { chmod, chown, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '../../../test/support/port.ts';

const run = promisify(execFile);

/** Thrown by `startPostgres` where the programs are not installed. */
export class PostgresMissing extends Error {
  constructor() {
    super('PostgreSQL is not installed: `npm run test:setup` installs it.');
  }
}

/** A running server. */
export interface TestServer {
  /** A database of its own in it: `postgres://…`. */
  readonly url: string;
  readonly port: number;
  /** Makes another database and gives its address. */
  database(name: string): Promise<string>;
  /** Runs SQL as the server's owner, in the database `postgres`, one text after the other. Gives what it printed, unaligned. */
  sql(...texts: readonly string[]): Promise<string>;
  /** Stops the server as a shutdown does (connections are ended) and starts it again, with more settings if given. */
  restart(settings?: readonly string[]): Promise<void>;
  stop(): Promise<void>;
}

/** Debian's folder of the newest installed version, or undefined. */
export async function postgresBinaries(): Promise<string | undefined> {
  const base = '/usr/lib/postgresql';
  const versions = await readdir(base).catch(() => []);
  const newest = versions.filter((name) => /^\d+$/.test(name)).sort((a, b) => Number(b) - Number(a))[0];
  return newest === undefined ? undefined : join(base, newest, 'bin');
}

/** Whether the tests over PostgreSQL run. Where they do not, says so once; under LONGSHORE_TEST_ALL=1 they must. */
export async function postgresIsThere(): Promise<boolean> {
  if ((await postgresBinaries()) !== undefined) return true;
  if (process.env.LONGSHORE_TEST_ALL === '1') throw new PostgresMissing();
  console.log('left out: PostgreSQL tests (npm run test:setup installs it)');
  return false;
}

async function idOf(user: string, flag: '-u' | '-g'): Promise<number> {
  return Number((await run('id', [flag, user])).stdout);
}

/** Starts a server on 127.0.0.1. As root it runs as the user `postgres`, since the server refuses root. */
export async function startPostgres(): Promise<TestServer> {
  const binaries = await postgresBinaries();
  if (binaries === undefined) throw new PostgresMissing();
  const folder = await mkdtemp(join(tmpdir(), 'longshore-pg-'));
  const asRoot = process.getuid?.() === 0;
  const call = (program: string, ...args: string[]) =>
    asRoot
      ? run('runuser', ['-u', 'postgres', '--', join(binaries, program), ...args], { cwd: folder })
      : run(join(binaries, program), args, { cwd: folder });
  const data = join(folder, 'data');
  if (asRoot) await chown(folder, await idOf('postgres', '-u'), await idOf('postgres', '-g'));
  await chmod(folder, 0o711);
  const stop = async (): Promise<void> => {
    await call('pg_ctl', '-D', data, '-m', 'immediate', '-w', 'stop').catch(() => {});
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const port = await freePort();
    await call(
      'initdb',
      '-D',
      data,
      '-U',
      'longshore',
      '-A',
      'trust',
      '--no-sync',
      '--no-instructions',
      '-E',
      'UTF8',
      '--locale=C.UTF-8',
    );
    const settings = [
      'fsync=off',
      'full_page_writes=off',
      'synchronous_commit=off',
      'deadlock_timeout=50ms',
      'listen_addresses=127.0.0.1',
    ];
    const begin = async (more: readonly string[]): Promise<void> => {
      const all = [...settings, ...more].flatMap((setting) => ['-c', setting]);
      const options = [...all, '-k', folder, '-p', String(port)].join(' ');
      await call('pg_ctl', '-D', data, '-w', '-l', join(folder, 'log'), '-o', options, 'start');
    };
    await begin([]);
    const address = (name: string) => `postgres://longshore@127.0.0.1:${port}/${name}`;
    return {
      url: address('postgres'),
      port,
      async database(name) {
        await call('createdb', '-h', '127.0.0.1', '-p', String(port), '-U', 'longshore', name);
        return address(name);
      },
      async sql(...texts) {
        const commands = texts.flatMap((text) => ['-c', text]);
        const where = ['-h', '127.0.0.1', '-p', String(port), '-U', 'longshore', '-d', 'postgres'];
        return (await call('psql', ...where, '-X', '-A', '-t', '-v', 'ON_ERROR_STOP=1', ...commands)).stdout.trim();
      },
      async restart(more = []) {
        await call('pg_ctl', '-D', data, '-m', 'fast', '-w', 'stop');
        await begin(more);
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
