/**
 * The soak: workers and programs against running instances with the collector's tick shortened, invariants asked again
 * and again, everything compared at the end. Gives what is wrong and never stops at the first mistake.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { client } from '../support/client.ts';
import { choices } from '../support/random.ts';
import type { Longshore } from '../support/server.ts';
import { audit, explain, type Kept } from './audit.ts';
import { catalogue } from './catalogue.ts';
import { type Place, place } from './model.ts';
import { programLoops, pushBase } from './programs.ts';
import { soakWorker } from './worker.ts';

/** The collector's settings of a soak (decisions 34: a tick of at least 1 s, a grace of at least 20). */
export const GC = { tick: '1s', graceTicks: 20, undeleteTicks: 20, deleteAfterTicks: 2, haltPercent: 100 } as const;
/** Half a grace less a tick, milliseconds: how long what was acknowledged stays without a manifest. */
const HOLDS = 9_000;
const DELETED = 'longshore_gc_deleted_keys_total';
const OWN = 2;
/** Mistakes after which it ends: one fault soon makes hundreds. */
const MOST_WRONG = 12;
/** Parts of a soak with `between`. */
const PARTS = 3;
/** Seconds between audits. */
const AUDIT_EVERY = 3;
/** The limit of I9 for one database command, milliseconds. */
export const SLOWEST = 1_000;

/** What a soak is run against. */
export interface SoakOptions {
  /** Those of the moment: `between` may start others on the same ports. */
  readonly servers: () => readonly Longshore[];
  readonly kept: Kept;
  readonly seed: number;
  readonly seconds: number;
  readonly workers: number;
  /** Milliseconds that a worker rests after each step: the machine has others to serve. */
  readonly rest?: number;
  readonly programs?: boolean;
  /** Called twice, while no client is at work: moves the collector's clock on. What was acknowledged but is not named may be gone then. */
  readonly between?: () => Promise<void>;
  /** It ends at so many mistakes; by default 12. */
  readonly mostWrong?: number;
  /** Called once a second with those that the worker needs there: plants faults. */
  readonly sabotage?: (needed: readonly string[]) => void;
  readonly say: (text: string) => void;
}

/** What came of it. */
export interface SoakReport {
  readonly wrong: readonly string[];
  readonly counts: ReadonlyMap<string, number>;
  /** The slowest database command that the servers logged, milliseconds; 0: none was above 50. */
  readonly slowest: number;
  readonly slowestName: string;
  /** Open descriptors of each server before the load, and resident memory in MiB as it went. */
  readonly descriptors: readonly number[];
  readonly memory: readonly number[];
}

/** Open descriptors of a process. */
export const descriptorsOf = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

/** Resident memory of a process, MiB. */
export const memoryOf = (pid: number): number =>
  Math.round(Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024);

/** The sum of a counter over instances, from their own metrics. */
export async function counterOf(servers: readonly Longshore[], name: string): Promise<number> {
  let sum = 0;
  for (const server of servers) {
    const text = await (await fetch(`${server.url}/metrics`)).text();
    sum += Number(new RegExp(`^${name}(?:{[^}]*})? (\\S+)$`, 'm').exec(text)?.[1] ?? 0);
  }
  return sum;
}

/** How many keys the collectors deleted; on a slow machine they may still be about to: they are waited for, two minutes. */
export async function deletedKeys(servers: () => readonly Longshore[]): Promise<number> {
  let deleted = await counterOf(servers(), DELETED);
  for (let tries = 0; tries < 240 && deleted === 0; tries++) {
    await sleep(500);
    deleted = await counterOf(servers(), DELETED);
  }
  return deleted;
}

/** The slowest command in what servers logged. */
function slowestOf(servers: readonly Longshore[]): { slowest: number; slowestName: string } {
  let [slowest, slowestName] = [0, ''];
  for (const server of servers) {
    for (const line of server.output().split('\n')) {
      if (!line.includes('a database command was slow')) continue;
      try {
        const { milliseconds, command } = JSON.parse(line) as { milliseconds: number; command: string };
        if (milliseconds > slowest) [slowest, slowestName] = [milliseconds, command];
      } catch {
        // The first line may be cut off.
      }
    }
  }
  return { slowest, slowestName };
}

/** Runs the soak and compares everything that the workers know. */
export async function soak(options: SoakOptions): Promise<SoakReport> {
  const { kept, seed, say, mostWrong = MOST_WRONG } = options;
  const first = options.servers();
  const clients = first.map(({ url }) => client(url, {}, 64));
  const counts = new Map<string, number>();
  const count = (what: string): void => void counts.set(what, (counts.get(what) ?? 0) + 1);
  const wrong: string[] = [];
  const explaining: Promise<void>[] = [];
  const report = (what: string, digest?: string): void => {
    if (wrong.length >= mostWrong) return;
    const at = wrong.push(what) - 1;
    say(what);
    if (digest === undefined) return;
    explaining.push(
      explain(kept.look, digest).then(
        (text) => void (wrong[at] += `\n    ${text}`),
        () => undefined,
      ),
    );
  };

  const images = await pushBase(clients[0]!);
  const pool = catalogue(seed);
  const shared = Array.from({ length: options.workers }, () => place('soak/shared', true));
  const own = Array.from({ length: options.workers }, (_, at) =>
    Array.from({ length: OWN }, (_, number) => place(`soak/worker-${at}/${number}`)),
  );
  const descriptors = first.map(({ pid }) => descriptorsOf(pid));
  let ends = 0;
  const going = (): boolean => performance.now() < ends && wrong.length < mostWrong;
  const workers = own.map((places, at) =>
    soakWorker({
      name: `worker-${at}`,
      clients,
      random: choices(seed + 1 + at),
      catalogue: pool,
      own: places,
      shared: shared[at]!,
      others: () => own.filter((_, other) => other !== at).map(([first]) => first!),
      holds: HOLDS,
      going,
      pace: () => (options.rest === undefined ? Promise.resolve() : sleep(options.rest)),
      count,
      wrong: report,
    }),
  );
  const programs =
    options.programs === false
      ? []
      : programLoops(
          { hosts: first.map(({ host }) => host), http: clients[0]!, going, count, wrong: report },
          images,
          choices(seed - 1),
        );

  const memory: number[] = [];
  let audits = 0;
  const watch = async (): Promise<void> => {
    for (let second = 1; going(); second++) {
      await sleep(1_000);
      options.sabotage?.(neededBy(own.flat()));
      if (second % AUDIT_EVERY !== 0) continue;
      memory.push(Math.max(...options.servers().map(({ pid }) => memoryOf(pid))));
      for (const found of await audit(kept)) report(found);
      audits++;
      if (audits % 20 === 0)
        say(
          `${second} s: ${counts.get('requests')} requests, ${await counterOf(options.servers(), DELETED)} keys deleted, ${memory.at(-1)} MiB`,
        );
    }
  };
  const part = async (seconds: number): Promise<void> => {
    ends = performance.now() + seconds * 1000;
    await Promise.all([...workers.map((worker) => worker.work()), ...programs.map((loop) => loop()), watch()]);
  };
  if (options.between === undefined) await part(options.seconds);
  else {
    for (let at = 0; at < PARTS; at++) {
      if (at > 0) {
        for (const known of [...own.flat(), ...shared]) for (const fact of known.blobs.values()) fact.until = 0;
        await options.between();
      }
      await part(options.seconds / PARTS);
    }
  }
  for (const found of await audit(kept)) report(found);
  if (wrong.length < mostWrong) await Promise.all(workers.map((worker) => worker.verify()));
  await Promise.all(explaining);
  for (const one of clients) one.close();
  for (const server of options.servers()) {
    const errors = server
      .output()
      .split('\n')
      .filter((line) => line.includes('"level":"error"') || line.includes('"level":50'))
      // A machine with much else to do may be late for a probe of the balancer.
      .filter((line) => !(line.includes('is not well: not ready') && line.includes('no answer within 2 s')));
    for (const line of errors.slice(0, 3)) report(`the server logged: ${line.slice(0, 1_000)}`);
  }
  counts.set('audits', audits);
  return { wrong, counts, ...slowestOf(options.servers()), descriptors, memory };
}

/** Digests of stored blobs that manifests need. */
function neededBy(places: readonly Place[]): string[] {
  return places.flatMap((one) =>
    [...one.manifests.values()].filter(({ there }) => there).flatMap(({ blobs }) => blobs.map(({ digest }) => digest)),
  );
}
