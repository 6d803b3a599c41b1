/**
 * The collector beside traffic: what 8 clients that push and pull feel of it, and how soon a mountain of garbage is
 * gone; and by itself. On files and SQLite, and where the programs are there on PostgreSQL and S3.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { postgresBinaries, startPostgres, type TestServer } from '../../src/database/postgres/server.testing.ts';
import { type S3Server, startS3 } from '../../src/storage/s3/server.testing.ts';
import { findTool } from '../../test/support/tools.ts';
import { openClient } from '../client.ts';
import { type Driver, openDriver } from '../drive.ts';
import type { Done } from '../load/task.ts';
import { folderFor, startLongshore } from '../peers.ts';
import type { Context, Figure, Group, Peer, Row, Values } from '../types.ts';
import { aloneFigures, collectAlone, prepare } from './gc-alone.ts';
import { litterFiles, litterShared } from './gc-litter.ts';

const CLIENTS = 8;
/** One small image pushed and pulled by every client in so many milliseconds: 80 of each a second. */
const EVERY = 100;
/** Seconds of traffic before anything is measured: the program's code is compiled, its threads have started. */
const WARM = 2;
const DELETED = 'longshore_gc_deleted_keys_total';
/** A collection that takes longer than this has failed. Milliseconds. */
const FORBEARANCE = 120_000;

const gcOf = (enabled: boolean, deleteAfterTicks: number) => ({
  gc: { enabled, tick: '1s', graceTicks: 20, deleteAfterTicks, haltPercent: 100 },
});

/** Longshore on a folder, on files or on what others share. */
type Start = (gc: boolean) => Promise<Peer>;

/** How garbage gets into what is not running. */
type Litter = (name: string, count: number) => Promise<void>;

let planted = 0;

async function deletedBy(peer: Peer): Promise<number> {
  const client = openClient(peer.url);
  try {
    const text = (await client.ask('GET', '/metrics')).body.toString();
    return Number(new RegExp(`^${DELETED} (\\S+)$`, 'm').exec(text)?.[1] ?? 0);
  } finally {
    client.close();
  }
}

/** Traffic that has begun: `end` gives what it measured. */
async function begin(peer: Peer): Promise<{ end(): Promise<Done> }> {
  const open = (name: string): Promise<Driver> =>
    openDriver({ kind: 'traffic', url: peer.url, clients: CLIENTS, every: EVERY, name }, 400);
  const run = async (driver: Driver, until: () => Promise<void>): Promise<Done> => {
    try {
      const done = driver.go();
      await Promise.race([until(), done]);
      driver.stop();
      return await done;
    } finally {
      driver.close();
    }
  };
  await run(await open('warm'), () => sleep(WARM * 1000));
  let over = (): void => undefined;
  const ended = new Promise<void>((done) => (over = done));
  const done = run(await open('measured'), () => ended);
  // It is asked for at the end; until then a failure is nobody's.
  done.catch(() => undefined);
  return {
    end() {
      over();
      return done;
    },
  };
}

/** Waits until so many keys are deleted, in seconds from now. */
async function untilDeleted(peer: Peer, count: number): Promise<number> {
  const from = performance.now();
  while ((await deletedBy(peer)) < count) {
    if (performance.now() - from > FORBEARANCE)
      throw new Error(`${await deletedBy(peer)} of ${count} keys were deleted`);
    await sleep(200);
  }
  return (performance.now() - from) / 1000;
}

/** The same traffic without the collector, then beside it, as long as there is garbage. */
async function beside(context: Context, start: Start, litter: Litter, count: number): Promise<Values> {
  await litter(`round-${planted++}`, count);
  const began = performance.now();
  const on = await start(true);
  let withIt: Done;
  let seconds: number;
  let rate: number;
  try {
    const traffic = await begin(on);
    // Reviews come first, then the bytes wait for their ticks.
    while ((await deletedBy(on)) === 0 && performance.now() - began < FORBEARANCE) await sleep(50);
    const from = performance.now();
    const before = await deletedBy(on);
    await untilDeleted(on, count);
    seconds = (performance.now() - began) / 1000;
    rate = (count - before) / ((performance.now() - from) / 1000);
    withIt = await traffic.end();
  } finally {
    await on.stop();
  }
  const off = await start(false);
  let without: Done;
  try {
    const traffic = await begin(off);
    await sleep(context.quick ? 1_000 : Math.max(5, Math.min(20, withIt.seconds)) * 1000);
    without = await traffic.end();
  } finally {
    await off.stop();
  }
  return {
    push50: withIt.p50,
    push99: withIt.p99,
    pull50: withIt.pull!.p50,
    pull99: withIt.pull!.p99,
    quietPush99: without.p99,
    quietPull99: without.pull!.p99,
    pushRatio: withIt.p99 / without.p99,
    pullRatio: withIt.pull!.p99 / without.pull!.p99,
    seconds,
    rate,
  };
}

function figures(goals: { readonly seconds: number; readonly rate?: number }): Figure[] {
  const milliseconds = (key: string, title: string): Figure => ({ key, title, unit: 'ms', better: 'less' });
  const ratio = (key: string, title: string): Figure => ({
    key,
    title,
    unit: '×',
    better: 'less',
    goals: [{ atMost: 1.5 }],
  });
  return [
    milliseconds('push50', 'p50 of small images pushed'),
    milliseconds('push99', 'p99 of small images pushed'),
    milliseconds('quietPush99', 'the same without the collector'),
    ratio('pushRatio', 'p99 of pushes with and without'),
    milliseconds('pull50', 'p50 of small images pulled'),
    milliseconds('pull99', 'p99 of small images pulled'),
    milliseconds('quietPull99', 'the same without the collector'),
    ratio('pullRatio', 'p99 of pulls with and without'),
    {
      key: 'seconds',
      title: 'from the start until 10,000 blobs are gone',
      unit: 's',
      better: 'less',
      goals: [{ atMost: goals.seconds }],
    },
    {
      key: 'rate',
      title: 'bytes of keys deleted',
      unit: '/s',
      better: 'more',
      ...(goals.rate === undefined ? {} : { goals: [{ atLeast: goals.rate }] }),
    },
  ];
}

export function gcGroup(context: Context): Group {
  let postgres: TestServer | undefined;
  let store: S3Server | undefined;
  let databases = 0;
  const count = context.quick ? 300 : 10_000;

  /** An empty database and an empty bucket, and how garbage gets there. */
  async function engines() {
    if (postgres === undefined) {
      postgres = await startPostgres();
      // Durable, as in production.
      await postgres.restart(['fsync=on', 'full_page_writes=on', 'synchronous_commit=on']);
    }
    store ??= await startS3();
    const name = `gc-${databases++}`;
    const { driver, ...s3 } = await store.bucket(name);
    const url = await postgres.database(name.replace('-', '_'));
    const folder = join(store.root, name);
    const client = new Client({ connectionString: url });
    await client.connect();
    return {
      // A redirect would last ten seconds at least, and bytes outlive it.
      config: { database: { url }, storage: { driver, s3, redirect: { lifetime: '10s', enabled: false } } },
      litter: ((round, blobs) => litterShared(client, folder, round, blobs)) satisfies Litter,
      async end() {
        await client.end();
        rmSync(folder, { recursive: true, force: true });
      },
    };
  }

  const files: Row = {
    id: 'gc',
    title: '10,000 blobs collected under 8 clients',
    figures: figures({ seconds: 60 }),
    async measure() {
      const data = join(folderFor(context, 'collected'), 'data');
      const start: Start = (gc) => startLongshore(context, { config: gcOf(gc, 1), data });
      // The tables are made by a first start.
      await (await start(false)).stop();
      try {
        const litter: Litter = async (name, blobs) => litterFiles(data, name, blobs);
        return await beside(context, start, litter, count);
      } finally {
        rmSync(data, { recursive: true, force: true });
      }
    },
  };
  const shared: Row = {
    id: 'gc-shared',
    title: '10,000 blobs collected under 8 clients, PostgreSQL and S3',
    rounds: 2,
    figures: figures({ seconds: 60, rate: 2_000 }),
    async measure() {
      const { config, litter, end } = await engines();
      try {
        const start: Start = (gc) => startLongshore(context, { config: { ...gcOf(gc, 10), ...config } });
        await (await start(false)).stop();
        return await beside(context, start, litter, count);
      } finally {
        await end();
      }
    },
  };
  const alone: Row = {
    id: 'gc-alone',
    title: '10,000 blobs collected, nothing else',
    figures: aloneFigures(),
    async measure() {
      const data = join(folderFor(context, 'alone'), 'data');
      const flags = { ...gcOf(true, 1), data };
      await prepare(flags);
      try {
        litterFiles(data, `round-${planted++}`, count);
        return await collectAlone(flags, count);
      } finally {
        rmSync(data, { recursive: true, force: true });
      }
    },
  };
  const aloneShared: Row = {
    id: 'gc-shared-alone',
    title: '10,000 blobs collected, nothing else, PostgreSQL and S3',
    figures: aloneFigures(2_000),
    async measure() {
      const { config, litter, end } = await engines();
      const data = folderFor(context, 'alone-shared');
      const flags = { ...gcOf(true, 10), ...config, data };
      try {
        await prepare(flags);
        await litter(`round-${planted++}`, count);
        return await collectAlone(flags, count);
      } finally {
        await end();
        rmSync(data, { recursive: true, force: true });
      }
    },
  };
  return {
    id: 'gc',
    weight: context.fleet ? 1 : 3,
    rows: context.fleet ? [shared, aloneShared] : [files, shared, alone, aloneShared],
    async open() {
      const unstarted: Peer = { name: 'longshore', url: '', pid: 0, data: '', stop: async () => undefined };
      if ((await postgresBinaries()) === undefined || findTool('versitygw') === undefined) {
        context.say('left out: the collector on PostgreSQL and S3 (npm run test:setup installs what it needs)');
        shared.runsOn = aloneShared.runsOn = () => false;
      }
      return [
        {
          ...unstarted,
          stop: async () => {
            await Promise.all([postgres?.stop(), store?.stop()]);
          },
        },
      ];
    },
  };
}
