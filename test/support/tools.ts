/**
 * Programs that tests need and the project does not bring: looked for in `.cache/bin` of the checkout (built by
 * `npm run test:setup`), then on PATH. A test that needs a missing one is not registered and is named at the end of
 * the run; under LONGSHORE_TEST_ALL=1 it fails instead. Nothing is ever skipped.
 */
import { type SpawnOptions, spawn } from 'node:child_process';
import { accessSync, appendFileSync, constants, globSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { test } from 'node:test';
import { cleanEnvironment, ROOT } from './server.ts';

const PLACES = ['/usr/local/bin', '/usr/bin', '/bin', '/usr/sbin', '/sbin'];

/** The path of a program, or undefined where this machine has none. */
export function findTool(name: string): string | undefined {
  const folders = [join(ROOT, '.cache/bin'), ...(process.env.PATH ?? '').split(delimiter), ...PLACES];
  if (name === 'initdb') folders.push(...globSync('/usr/lib/postgresql/*/bin').sort().reverse());
  for (const folder of folders) {
    if (folder === '') continue;
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/** Records that something was left out: for the runner where there is one, else on standard error. */
export function leftOut(what: string): void {
  const file = process.env.LONGSHORE_TEST_LEFT_OUT;
  if (file === undefined) process.stderr.write(`left out: ${what}; \`npm run test:setup\` installs what it needs\n`);
  else appendFileSync(file, `${process.argv[1]}\t${what}\n`);
}

/**
 * Registers tests that need programs: `register` gets their paths in the order of the names. Where one is missing,
 * nothing is registered but the fact (LONGSHORE_TEST_ALL=1: a test that fails).
 */
export function withTools(names: readonly string[], what: string, register: (...paths: string[]) => void): void {
  const found = names.map(findTool);
  const missing = names.filter((_, index) => found[index] === undefined);
  if (missing.length === 0) {
    register(...found.map((path) => path ?? ''));
    return;
  }
  const text = `${what}: needs ${missing.join(', ')}`;
  if (process.env.LONGSHORE_TEST_ALL === '1') {
    test(`${what}: the programs it needs are there`, () => {
      throw new Error(`${text}; \`npm run test:setup\` installs what is missing`);
    });
  } else leftOut(text);
}

/** How a program that ran to its end ended. */
export interface Ran {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** How to run a program. */
export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  /** Milliseconds after which it is killed and the run fails. */
  readonly limit?: number;
}

/** Runs a program to its end, in a clean environment. Never throws because of its exit code. */
export function runAny(program: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const spawning: SpawnOptions = { env: cleanEnvironment(options.env), stdio: ['pipe', 'pipe', 'pipe'] };
  if (options.cwd !== undefined) spawning.cwd = options.cwd;
  return new Promise((done, fail) => {
    const child = spawn(program, args, spawning);
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    const limit = options.limit ?? 120_000;
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      fail(new Error(`${program} ${args.join(' ')} did not end within ${limit} ms: ${Buffer.concat(err)}`));
    }, limit);
    child.stdout?.on('data', (bytes: Buffer) => out.push(bytes));
    child.stderr?.on('data', (bytes: Buffer) => err.push(bytes));
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.input);
    child.on('error', (error) => {
      clearTimeout(timer);
      fail(error);
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      done({ code, signal, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() });
    });
  });
}

/** Runs a program that has to succeed; gives its standard output. */
export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const ran = await runAny(program, args, options);
  if (ran.code !== 0) {
    throw new Error(`${program} ${args.join(' ')} ended with ${ran.code ?? ran.signal}\n${ran.stdout}${ran.stderr}`);
  }
  return ran.stdout;
}
