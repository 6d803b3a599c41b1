/** Starts load processes and waits for what they did. */
import { fork } from 'node:child_process';
import { join } from 'node:path';
import { cpuSeconds } from './cpu.ts';
import type { ToDriver } from './driver.ts';
import type { Done, Task } from './load/task.ts';
import { cleanEnvironment, remember } from './processes.ts';

type FromDriver = { readonly ready: true } | { readonly done: Done } | { readonly error: string };

/** A load process that is ready to go. */
export interface Driver {
  /** Starts, and resolves with what was done. */
  go(): Promise<Done>;
  /** Ends an endless task; `go` resolves. */
  stop(): void;
  /** Ends the process. */
  close(): void;
}

/** Throws where it is not ready in 60 s. `limit`: most seconds that `go` may take. */
export async function openDriver(task: Task, limit = 300): Promise<Driver> {
  const child = remember(
    fork(join(import.meta.dirname, 'driver.ts'), { env: cleanEnvironment(), serialization: 'advanced', execArgv: [] }),
  );
  const close = (): void => void child.kill('SIGKILL');
  const next = (seconds: number): Promise<FromDriver> =>
    new Promise((done, fail) => {
      const timer = setTimeout(() => over(new Error(`the ${task.kind} load took over ${seconds} s`)), seconds * 1000);
      const over = (error: Error | undefined, message?: FromDriver): void => {
        clearTimeout(timer);
        child.off('message', onMessage);
        child.off('exit', onExit);
        if (message !== undefined && 'error' in message) fail(new Error(message.error));
        else if (message !== undefined) done(message);
        else fail(error);
      };
      const onMessage = (message: unknown): void => over(undefined, message as FromDriver);
      const onExit = (code: number | null): void => over(new Error(`the ${task.kind} load's process ended (${code})`));
      child.on('message', onMessage);
      child.on('exit', onExit);
    });
  const say = (message: ToDriver): void => void child.send(message);
  try {
    const ready = next(60);
    say({ task });
    await ready;
  } catch (error) {
    close();
    throw error;
  }
  return {
    async go() {
      const done = next(limit);
      say('go');
      const message = await done;
      if (!('done' in message)) throw new Error('an unexpected word of the load process');
      return message.done;
    },
    stop: () => say('stop'),
    close,
  };
}

/** What was done, and what CPU seconds the server took meanwhile. */
export interface Driven extends Done {
  readonly cpu: number;
}

/** One task from start to end. Wrong answers throw. */
export async function drive(task: Task, pid: number, limit?: number): Promise<Driven> {
  const driver = await openDriver(task, limit);
  try {
    const before = cpuSeconds(pid);
    const done = await driver.go();
    const cpu = cpuSeconds(pid) - before;
    if (done.errors > 0) throw new Error(`${done.errors} wrong answers of ${done.count}`);
    return { ...done, cpu };
  } finally {
    driver.close();
  }
}
