/** Every process that the benchmark starts: known by its id, and ended with the run whatever happens. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { request as plain } from 'node:http';
import { request as encrypted } from 'node:https';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const running = new Set<ChildProcess>();

/** Remembers a child until it ends. */
export function remember<Child extends ChildProcess>(child: Child): Child {
  running.add(child);
  child.once('exit', () => running.delete(child));
  child.once('error', () => running.delete(child));
  return child;
}

/** Kills what is still running, each by its id. */
export function endAll(): void {
  for (const child of running) child.kill('SIGKILL');
}

/** This process's environment without what would configure a peer. */
export function cleanEnvironment(more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(LONGSHORE_|OTEL_|REGISTRY_|NODE_OPTIONS|NODE_TEST|NODE_COMPILE_CACHE|https?_proxy)/i.test(name),
  );
  return { ...Object.fromEntries(kept), OTEL_TRACES_EXPORTER: 'none', ...more };
}

/** A port of 127.0.0.1 that was free a moment ago. */
export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const address = probe.address();
  probe.close();
  await once(probe, 'close');
  if (address === null || typeof address === 'string') throw new Error('no free port');
  return address.port;
}

/** Starts a server; what it writes (its access log, if that is where it goes) lands in `output`. */
export function launch(program: string, args: readonly string[], output: string): ChildProcess {
  const file = openSync(output, 'a');
  const child = spawn(program, args, { env: cleanEnvironment(), stdio: ['ignore', file, file] });
  closeSync(file);
  return remember(child);
}

/** SIGTERM, and SIGKILL where that was not enough for 10 s. */
export async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await exited;
  clearTimeout(timer);
}

/** The status of GET `url`, undefined where nothing answers within 2 s. */
export function statusOf(url: string): Promise<number | undefined> {
  const ask = url.startsWith('https:') ? encrypted : plain;
  return new Promise((done) => {
    // Only whether it is up is asked here; the rows check the certificate.
    const asked = ask(url, { agent: false, timeout: 2_000, rejectUnauthorized: false }, (answer) => {
      answer.resume();
      answer.on('error', () => done(undefined));
      answer.on('end', () => done(answer.statusCode));
    });
    asked.on('timeout', () => asked.destroy());
    asked.on('error', () => done(undefined));
    asked.end();
  });
}

/** Waits until /v2/ answers 200 or 401. Throws with the end of its output where it ends or takes over 30 s. */
export async function untilUp(child: ChildProcess, url: string, output: string, pause = 10): Promise<void> {
  const started = performance.now();
  let failed: Error | undefined;
  child.once('error', (error) => (failed = error));
  for (;;) {
    const status = await statusOf(`${url}/v2/`);
    if (status === 200 || status === 401) return;
    const ended = failed !== undefined || child.exitCode !== null || child.signalCode !== null;
    if (ended || performance.now() - started > 30_000) {
      await end(child);
      const said = readFileSync(output, 'utf8').slice(-2_000);
      throw new Error(
        `${child.spawnfile} ${ended ? 'ended' : 'did not answer'} at its start (${failed ?? ''}): ${said}`,
      );
    }
    await sleep(pause);
  }
}
