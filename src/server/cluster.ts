/**
 * Several processes of one host over one data folder. The primary owns the folder, the one writer and the jobs, and
 * listens to nobody; the members serve. A member that dies is started again; when the primary is gone, members stop.
 */
import cluster, { type Worker } from 'node:cluster';
import { isSea } from 'node:sea';
import { backoff } from '../kit/backoff.ts';
import { after, type Clock } from '../kit/clock.ts';
import type { Log } from '../kit/log.ts';
import type { MetricSnapshot } from '../telemetry/metrics.ts';

/** One ordered connection between a member and the primary. */
export interface ProcessChannel {
  send(message: unknown): void;
  onMessage(listener: (message: unknown) => void): () => void;
  onClose(listener: () => void): () => void;
}

/** What the two say to each other besides the database's messages. */
type Message =
  | { readonly longshore: 'member.stop' }
  | { readonly longshore: 'member.reload' }
  | { readonly longshore: 'member.ready'; readonly port: number }
  | { readonly longshore: 'metrics.snapshot?'; readonly id: number }
  | { readonly longshore: 'metrics.snapshot'; readonly id: number; readonly snapshot: readonly MetricSnapshot[] }
  | { readonly longshore: 'metrics.all?'; readonly id: number }
  | {
      readonly longshore: 'metrics.all';
      readonly id: number;
      readonly snapshots: readonly (readonly MetricSnapshot[])[];
    };

const METRICS_LIMIT = 2_000;

/** Whether this process is a member. */
export function isMember(): boolean {
  return cluster.isWorker;
}

function isMessage(message: unknown): message is Message {
  return typeof (message as { longshore?: unknown } | null)?.longshore === 'string';
}

/** The primary's side. */
export interface Members {
  /** Resolves with the port when the first member serves. */
  readonly ready: Promise<number>;
  /** What every process measured, this one last. */
  snapshots(): Promise<readonly (readonly MetricSnapshot[])[]>;
  /** Members load their configuration again. */
  reload(): void;
  /** Members stop; resolves when all are gone. Called again: at once. Those that are not gone in time are killed. */
  stop(milliseconds: number): Promise<void>;
}

/** Starts the members. `serve` is given each one's channel and gives what ends serving it. */
export function startMembers(parts: {
  readonly count: number;
  readonly serve: (channel: ProcessChannel) => () => void;
  readonly own: () => readonly MetricSnapshot[];
  readonly clock: Clock;
  readonly log: Log;
}): Members {
  const { log } = parts;
  // A single executable has no script to name: its first argument stands where one would, and its flags are in it.
  const [, , exec = '', ...args] = process.argv;
  cluster.setupPrimary({ serialization: 'advanced', ...(isSea() ? { exec, args, execArgv: [] } : {}) });
  let stopping = false;
  let lastId = 0;
  const asked = new Map<string, (snapshot: readonly MetricSnapshot[]) => void>();
  const ready = Promise.withResolvers<number>();
  const members = new Set<Worker>();

  const snapshots = async (): Promise<readonly (readonly MetricSnapshot[])[]> => {
    const answers = [...members].map(
      (member) =>
        new Promise<readonly MetricSnapshot[]>((resolve) => {
          const id = ++lastId;
          const key = `${member.id}:${id}`;
          const done = (snapshot: readonly MetricSnapshot[]): void => {
            asked.delete(key);
            cancel();
            resolve(snapshot);
          };
          const cancel = after(METRICS_LIMIT, () => done([]));
          asked.set(key, done);
          tell(member, { longshore: 'metrics.snapshot?', id });
        }),
    );
    return [...(await Promise.all(answers)), parts.own()];
  };

  const start = (deaths: number): void => {
    const member = cluster.fork();
    const born = parts.clock.monotonic();
    members.add(member);
    const ended = parts.serve(channelOf(member));
    member.on('message', (message: unknown) => {
      if (!isMessage(message)) return;
      if (message.longshore === 'member.ready') ready.resolve(message.port);
      else if (message.longshore === 'metrics.snapshot') asked.get(`${member.id}:${message.id}`)?.(message.snapshot);
      else if (message.longshore === 'metrics.all?') {
        const { id } = message;
        void snapshots().then((all) => tell(member, { longshore: 'metrics.all', id, snapshots: all }));
      }
    });
    member.on('error', (error) => log.warn('a member cannot be reached', { error }));
    member.on('exit', (code, signal) => {
      members.delete(member);
      ended();
      if (stopping) return;
      // One that ran well for a minute starts the count anew.
      const again = parts.clock.monotonic() - born > 60_000 ? 1 : deaths + 1;
      const wait = backoff(again, 100, 30_000);
      log.error('a serving process ended and is started again', {
        code: code ?? undefined,
        signal: signal ?? undefined,
        waitMilliseconds: wait,
      });
      after(wait, () => {
        if (!stopping) start(again);
      });
    });
  };
  for (let index = 0; index < parts.count; index++) start(0);

  return {
    ready: ready.promise,
    snapshots,
    reload: () => {
      for (const member of members) tell(member, { longshore: 'member.reload' });
    },
    stop: async (milliseconds) => {
      stopping = true;
      const gone = [...members].map(
        (member) => new Promise<void>((resolve) => void member.once('exit', () => resolve())),
      );
      for (const member of members) tell(member, { longshore: 'member.stop' });
      const kill = after(milliseconds, () => {
        for (const member of members) member.process.kill('SIGKILL');
      });
      await Promise.all(gone);
      kill();
    },
  };
}

/** A member's side. */
export interface Membership {
  readonly channel: ProcessChannel;
  /** Says that this process serves, and on which port. */
  ready(port: number): void;
  /** What every process measured. */
  snapshots(): Promise<readonly (readonly MetricSnapshot[])[]>;
}

/** Joins the primary. Its signals are the primary's matter: a terminal sends them to every process of the group. */
export function joinPrimary(on: {
  readonly stop: () => void;
  readonly reload: () => void;
  readonly own: () => readonly MetricSnapshot[];
}): Membership {
  let lastId = 0;
  const waiting = new Map<number, (all: readonly (readonly MetricSnapshot[])[]) => void>();
  const send = (message: unknown): void => {
    if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
  process.on('disconnect', on.stop);
  process.on('message', (message: unknown) => {
    if (!isMessage(message)) return;
    if (message.longshore === 'member.stop') on.stop();
    else if (message.longshore === 'member.reload') on.reload();
    else if (message.longshore === 'metrics.snapshot?') {
      send({ longshore: 'metrics.snapshot', id: message.id, snapshot: on.own() } satisfies Message);
    } else if (message.longshore === 'metrics.all') {
      waiting.get(message.id)?.(message.snapshots);
      waiting.delete(message.id);
    }
  });
  return {
    channel: {
      send,
      onMessage: (listener) => {
        process.on('message', listener);
        return () => void process.off('message', listener);
      },
      onClose: (listener) => {
        process.on('disconnect', listener);
        return () => void process.off('disconnect', listener);
      },
    },
    ready: (port) => send({ longshore: 'member.ready', port } satisfies Message),
    snapshots: () =>
      new Promise((resolve) => {
        const id = ++lastId;
        waiting.set(id, resolve);
        after(2 * METRICS_LIMIT, () => {
          if (waiting.delete(id)) resolve([on.own()]);
        });
        send({ longshore: 'metrics.all?', id } satisfies Message);
      }),
  };
}

function tell(member: Worker, message: Message): void {
  if (member.isConnected()) member.send(message, undefined, undefined, () => undefined);
}

function channelOf(member: Worker): ProcessChannel {
  return {
    send: (message) => {
      if (member.isConnected()) member.send(message as never, undefined, undefined, () => undefined);
    },
    onMessage: (listener) => {
      member.on('message', listener);
      return () => void member.off('message', listener);
    },
    onClose: (listener) => {
      member.on('exit', listener);
      return () => void member.off('exit', listener);
    },
  };
}
