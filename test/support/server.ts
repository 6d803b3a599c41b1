/**
 * The real program, started as its own process: `bin/longshore serve` over a temporary data folder, on a free port of
 * 127.0.0.1. The process is ended with the test process. By default the source is run, so that a test started by hand
 * tests what was just written; the runner builds the bundle first and asks for it by LONGSHORE_TEST_ENTRY=bundle.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join, resolve } from 'node:path';
import { after } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './port.ts';
import { temporaryFolder } from './temp.ts';

/** The checkout. */
export const ROOT = resolve(import.meta.dirname, '../..');

/** How long a start may take before it counts as failed, milliseconds. */
const START_LIMIT = 120_000;
/** How much of the program's output is kept: the last so many characters. */
const OUTPUT_LIMIT = 4 * 1024 * 1024;

/** What to start. */
export interface StartOptions {
  /** Written to a configuration file (YAML reads JSON) and given by `--config`. */
  readonly config?: object;
  /** Added to a small clean environment; nothing else of this process's LONGSHORE_* or OTEL_* is passed on. */
  readonly env?: Readonly<Record<string, string>>;
  /** More arguments after `serve …`. */
  readonly args?: readonly string[];
  /** The data folder; absent: a new temporary one. */
  readonly data?: string;
  /** The port; absent: a free one. */
  readonly port?: number;
  /** Dies by SIGKILL at the `count`-th time that this failpoint is reached. */
  readonly failpoint?: { readonly name: string; readonly count: number };
  readonly entry?: 'bundle' | 'source';
  /** A program and its arguments put in front, as `strace -f -o FILE`. */
  readonly wrapper?: readonly string[];
  /** False: do not wait for the server to answer. */
  readonly wait?: boolean;
}

/** How a process ended. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A started program. */
export interface Longshore {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** `127.0.0.1:PORT` */
  readonly host: string;
  readonly port: number;
  readonly data: string;
  readonly pid: number;
  /** What it wrote so far to standard output and error, together. */
  output(): string;
  /** SIGTERM, then waits for the end; throws unless it ended by itself with 0. */
  stop(): Promise<void>;
  /** SIGKILL, then waits for the end. */
  kill(): Promise<void>;
  readonly exited: Promise<Exit>;
}

const running = new Set<ChildProcess>();
const endAll = (): void => {
  for (const child of running) child.kill('SIGKILL');
};
process.on('exit', endAll);
// A test that fails before it stops its server would otherwise keep this process waiting for it. The hooks of test
// files, which stop theirs properly, run after this one and get their time.
if (process.env.NODE_TEST_CONTEXT !== undefined) after(() => void setTimeout(endAll, 90_000).unref());

/** The status of one GET, or undefined where nothing answers. */
export function statusOf(url: string): Promise<number | undefined> {
  return new Promise((done) => {
    const asked = request(url, { agent: false, timeout: 10_000 }, (answer) => {
      answer.resume();
      answer.on('error', () => done(undefined));
      answer.on('end', () => done(answer.statusCode));
    });
    asked.on('timeout', () => asked.destroy());
    asked.on('error', () => done(undefined));
    asked.end();
  });
}

/** The environment of a started program: this one's without what would configure it, and with the given additions. */
export function cleanEnvironment(more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const environment: NodeJS.ProcessEnv = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (
      /^(LONGSHORE_|OTEL_|OCI_|NODE_TEST|NODE_OPTIONS|NODE_COMPILE_CACHE|COSIGN_|HELM_|XDG_|DOCKER_|REGISTRY_|https?_proxy|HTTPS?_PROXY)/.test(
        name,
      )
    )
      continue;
    environment[name] = value;
  }
  return { ...environment, ...more };
}

/** The program and first arguments that run Longshore. */
export function longshoreCommand(entry?: 'bundle' | 'source'): string[] {
  const chosen = entry ?? (process.env.LONGSHORE_TEST_ENTRY === 'bundle' ? 'bundle' : 'source');
  return chosen === 'bundle' ? [join(ROOT, 'bin/longshore')] : [process.execPath, join(ROOT, 'src/main.ts')];
}

/** Starts `longshore serve` and waits until `/v2/` answers 200 or 401. Throws with the program's output where it does not. */
export async function startLongshore(options: StartOptions = {}): Promise<Longshore> {
  const data = options.data ?? temporaryFolder('data');
  const port = options.port ?? (await freePort());
  const host = `127.0.0.1:${port}`;
  const url = `http://${host}`;
  const args = ['serve', '--listen', host, '--data', data];
  if (options.config !== undefined) {
    const file = join(temporaryFolder('config'), 'longshore.yaml');
    writeFileSync(file, JSON.stringify(options.config));
    args.push('--config', file);
  }
  const [program = '', ...rest] = [
    ...(options.wrapper ?? []),
    ...longshoreCommand(options.entry),
    ...args,
    ...(options.args ?? []),
  ];
  const { failpoint } = options;
  const environment = cleanEnvironment({
    ...(failpoint === undefined ? {} : { LONGSHORE_TEST_FAILPOINT: `${failpoint.name}:${failpoint.count}` }),
    ...options.env,
  });
  const child = spawn(program, rest, { cwd: data, env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  let output = '';
  const keep = (text: Buffer): void => {
    output += text.toString();
    if (output.length > OUTPUT_LIMIT) output = output.slice(-OUTPUT_LIMIT);
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  let ended: Exit | undefined;
  const exited = new Promise<Exit>((done) => {
    const end = (exit: Exit): void => {
      running.delete(child);
      ended = exit;
      done(exit);
    };
    child.on('error', (error) => {
      output += `\n${error.message}`;
      end({ code: null, signal: null });
    });
    child.on('exit', (code, signal) => end({ code, signal }));
  });
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
  };
  if (options.wait !== false) {
    const started = performance.now();
    for (;;) {
      const status = await statusOf(`${url}/v2/`);
      if (status === 200 || status === 401) break;
      if (ended !== undefined) {
        throw new Error(`Longshore ended (${ended.code ?? ended.signal}) before it answered:\n${output}`);
      }
      if (performance.now() - started > START_LIMIT) {
        await kill();
        throw new Error(`Longshore did not answer on ${url} (last status ${status}):\n${output}`);
      }
      await sleep(15);
    }
  }
  return {
    url,
    host,
    port,
    data,
    pid: child.pid ?? -1,
    output: () => output,
    stop: async () => {
      child.kill('SIGTERM');
      const exit = await exited;
      if (exit.code !== 0) throw new Error(`Longshore ended with ${exit.code ?? exit.signal}:\n${output}`);
    },
    kill,
    exited,
  };
}
