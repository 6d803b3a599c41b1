/** What the tests of deployments share: programs that run until they are stopped, and what `npm run test:setup` fetched. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ROOT, statusOf } from '../support/server.ts';
import { leftOut } from '../support/tools.ts';

/** A program that serves. */
export interface Started {
  readonly pid: number;
  /** Standard output and error so far. */
  output(): string;
  /** SIGTERM, then its exit code. */
  stop(): Promise<number | null>;
}

const LIMIT = 120_000;

/** What a failed test left running would keep its process waiting. */
const running = new Set<() => void>();
after(() => {
  for (const kill of running) kill();
});

/** Starts a program and waits until `url` answers with one of `statuses`. It ends with this process at the latest. */
export async function startProgram(
  [program = '', ...args]: readonly string[],
  options: {
    readonly env: Readonly<Record<string, string>>;
    readonly cwd: string;
    readonly url: string;
    readonly statuses?: readonly number[];
  },
): Promise<Started> {
  const child = spawn(program, args, { env: options.env, cwd: options.cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  const withUs = (): void => void child.kill('SIGKILL');
  process.on('exit', withUs);
  running.add(withUs);
  let output = '';
  let ended = false;
  const exited = new Promise<number | null>((done) => {
    const end = (code: number | null, text = ''): void => {
      ended = true;
      output += text;
      process.off('exit', withUs);
      running.delete(withUs);
      done(code);
    };
    child.on('error', (error) => end(null, error.message));
    child.on('close', (code) => end(code));
  });
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text: Buffer) => (output += text.toString()));
  const started = performance.now();
  for (;;) {
    const status = await statusOf(options.url);
    if (status !== undefined && (options.statuses ?? [200]).includes(status)) break;
    if (ended) throw new Error(`${program} ended before it answered:\n${output}`);
    if (performance.now() - started > LIMIT) {
      child.kill('SIGKILL');
      throw new Error(`${program} did not answer on ${options.url} (last status ${status}):\n${output}`);
    }
    await sleep(30);
  }
  return {
    pid: child.pid ?? -1,
    output: () => output,
    stop: () => {
      child.kill('SIGTERM');
      return exited;
    },
  };
}

/** Registers tests that need more than programs; where it is not there they are left out, or fail, as with programs. */
export function withThese(
  needs: Readonly<Record<string, boolean>>,
  what: string,
  register: () => void | Promise<void>,
): void | Promise<void> {
  const missing = Object.keys(needs).filter((name) => needs[name] !== true);
  if (missing.length === 0) return register();
  const text = `${what}: needs ${missing.join(', ')}`;
  if (process.env.LONGSHORE_TEST_ALL !== '1') leftOut(text);
  else
    test(`${what}: what it needs is there`, () => {
      throw new Error(`${text}; \`npm run test:setup\` fetches it`);
    });
}

/** An architecture by its name in images, and in Node. */
export const OWN = process.arch === 'arm64' ? 'arm64' : 'amd64';

/** Whether the Debian packages of the image were fetched. */
export function packagesFetched(architecture: string): boolean {
  return existsSync(join(ROOT, '.cache/image', architecture));
}

/** Whether Node for another architecture was fetched. */
export function nodeFetched(architecture: 'amd64' | 'arm64'): boolean {
  if (architecture === OWN) return true;
  const name = `node-linux-${architecture === 'amd64' ? 'x64' : 'arm64'}`;
  const { optionalDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    optionalDependencies: Record<string, string>;
  };
  return existsSync(join(ROOT, '.cache/node', `${name}-${optionalDependencies[name]}`, 'package/bin/node'));
}
