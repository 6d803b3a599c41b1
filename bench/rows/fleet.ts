/**
 * Longshore on PostgreSQL and S3, as a fleet of servers has it, beside Distribution on the same S3 server: small reads
 * and pushes with what they cost everywhere, large blobs through the server and by redirect, and two instances.
 */
import { blobOf } from '../bytes.ts';
import { openClient, pushBlob } from '../client.ts';
import { forgetPeak, peakMemory } from '../cpu.ts';
import { pull } from '../curl.ts';
import { type Driven, drive } from '../drive.ts';
import { type Engines, startEngines } from '../engines.ts';
import { bigDigest } from '../load/big.ts';
import { startDistribution, startLongshore } from '../peers.ts';
import type { Context, Figure, Goal, Group, Peer, Row, Values } from '../types.ts';
import { getSmall, headSmall } from '../wrk.ts';
import { seedSmall } from './small.ts';

const MiB = 1024 * 1024;
const MANIFEST = '/v2/bench/small/manifests/latest';
const SMALL_BLOB = `/v2/bench/small/blobs/${blobOf(4096, 'small/4k').digest}`;
const SIZE = 64 * MiB;

let sequence = 0;

/** Longshore, one or two instances, on an empty database and bucket of the engines. */
async function startFleet(context: Context, engines: Engines, count: 1 | 2, redirect: boolean): Promise<Peer> {
  const name = `fleet${sequence++}`;
  const { driver, ...s3 } = engines.bucket(name);
  const config = {
    database: { url: await engines.database(name) },
    storage: { driver, s3, durability: 'full', redirect: { enabled: redirect } },
  };
  const instances: Peer[] = [];
  for (let index = 0; index < count; index++) instances.push(await startLongshore(context, { config }));
  const [first] = instances as [Peer];
  return {
    ...first,
    name: count === 1 ? 'longshore' : 'longshore2',
    data: name,
    instances: instances.map(({ url, pid }) => ({ url, pid })),
    stop: async () => void (await Promise.allSettled(instances.map((one) => one.stop()))),
  };
}

/** Distribution on an empty bucket, with the cache of descriptors that its own image configures. */
async function startOnS3(context: Context, engines: Engines, redirect: boolean): Promise<Peer> {
  const name = `distribution${sequence++}`;
  const bucket = engines.bucket(name);
  const peer = await startDistribution(context, {
    storage: {
      s3: {
        accesskey: bucket.accessKeyId,
        secretkey: bucket.secretAccessKey,
        region: bucket.region,
        regionendpoint: bucket.endpoint,
        bucket: bucket.bucket,
        forcepathstyle: true,
        secure: false,
      },
      delete: { enabled: true },
      cache: { blobdescriptor: 'inmemory' },
      redirect: { disable: !redirect },
    },
  });
  return { ...peer, data: name };
}

const COSTS: readonly Figure[] = [
  { key: 'cpu', title: 'server CPU per 1,000', unit: 's', better: 'less' },
  { key: 'allCpu', title: 'CPU with PostgreSQL and S3 per 1,000', unit: 's', better: 'less' },
  { key: 'statements', title: 'statements each', unit: '', better: 'less' },
  { key: 'wal', title: 'WAL each', unit: 'KiB', better: 'less' },
  { key: 'requests', title: 'requests to S3 each', unit: '', better: 'less' },
  { key: 'p99', title: 'p99', unit: 'ms', better: 'less' },
];

function figures(title: string, unit: string, goals: readonly Goal[] = []): Figure[] {
  return [{ key: 'rate', title, unit, better: 'more', goals }, ...COSTS];
}

const times = (multiple: number): Goal[] => [{ times: multiple, of: 'distribution' }];

/** Runs the work on all instances at once, and says what it cost everywhere. */
async function costs(
  engines: Engines,
  peer: Peer,
  work: (instance: { url: string; pid: number }) => Promise<Driven>,
): Promise<Values> {
  const instances = peer.instances ?? [peer];
  const before = await engines.count(peer.data);
  const done = await Promise.all(instances.map(work));
  const after = await engines.count(peer.data);
  const count = done.reduce((sum, one) => sum + one.count, 0);
  const cpu = done.reduce((sum, one) => sum + one.cpu, 0);
  const all = cpu + after.postgres - before.postgres + after.store - before.store;
  return {
    rate: done.reduce((sum, one) => sum + one.count / one.seconds, 0),
    cpu: (cpu / count) * 1000,
    allCpu: (all / count) * 1000,
    statements: (after.statements - before.statements) / count,
    wal: (after.wal - before.wal) / 1024 / count,
    requests: (after.requests - before.requests) / count,
    p99: Math.max(...done.map(({ p99 }) => p99)),
  };
}

async function stopAll(peers: readonly Peer[]): Promise<void> {
  await Promise.allSettled(peers.map((peer) => peer.stop()));
}

/** Engines and peers that end together; `prepare` runs on each. */
async function opened(
  context: Context,
  start: (engines: Engines) => readonly (() => Promise<Peer>)[],
  prepare: (peer: Peer) => Promise<unknown>,
  use: (engines: Engines) => void,
): Promise<readonly Peer[]> {
  const engines = await startEngines(context);
  use(engines);
  const peers: Peer[] = [];
  try {
    for (const one of start(engines)) peers.push(await one());
    for (const peer of peers) await prepare(peer);
  } catch (error) {
    await stopAll(peers);
    await engines.stop();
    throw error;
  }
  const [first, ...rest] = peers as [Peer, ...Peer[]];
  // The run stops all peers at once; the engines go when the last of them has gone.
  let left = peers.length;
  const last = async (): Promise<void> => {
    if (--left === 0) await engines.stop();
  };
  return [first, ...rest].map((peer) => ({ ...peer, stop: () => peer.stop().finally(last) }));
}

function imagesOn(peer: { url: string; pid: number }, clients: number, seconds: number): Promise<Driven> {
  const name = `image-${sequence++}`;
  return drive({ kind: 'images', url: peer.url, repository: `bench/image-${name}`, clients, seconds, name }, peer.pid);
}

/** Small reads, on one instance, on Distribution and on two instances; apart from pushes, whose spill goes on for a while. */
export const fleetSmallGroup = (context: Context): Group => smallGroup(context, 'fleet-small');
/** Small pushes, on the same. */
export const fleetImagesGroup = (context: Context): Group => smallGroup(context, 'fleet-images');

function smallGroup(context: Context, id: 'fleet-small' | 'fleet-images'): Group {
  const seconds = context.quick ? 1 : 2;
  const { tools } = context;
  let engines: Engines;
  const two = (peer: Peer): boolean => peer.name === 'longshore2';
  const get = (id: string, title: string, path: string, connections: number, goals: Goal[] = []): Row => ({
    id,
    title: `${title}, ${connections} connection${connections === 1 ? '' : 's'}`,
    figures: figures('requests', '/s', goals),
    runsOn: (peer) => !two(peer) || connections === 16,
    measure: (peer) => {
      const each = connections / (peer.instances?.length ?? 1);
      return costs(engines, peer, (one) => getSmall({ ...one, path, connections: each, seconds }, tools));
    },
  });
  const images = (clients: number): Row => ({
    id: `fleet-images-${clients}`,
    title: `Small images (2 × 10 KB, configuration, manifest), ${clients} client${clients > 1 ? 's' : ''}`,
    figures: figures('images', '/s', times(2)),
    runsOn: (peer) => !two(peer) || clients > 1,
    measure: (peer) => costs(engines, peer, (one) => imagesOn(one, clients / (peer.instances?.length ?? 1), seconds)),
  });
  const reads: Row[] = [
    get('fleet-get-1', 'Manifest GET by tag', MANIFEST, 1, times(3)),
    get('fleet-get-16', 'Manifest GET by tag', MANIFEST, 16, times(3)),
    get('fleet-get-64', 'Manifest GET by tag', MANIFEST, 64, times(3)),
    {
      id: 'fleet-head-16',
      title: 'Manifest HEAD by tag, 16 connections',
      figures: figures('requests', '/s', times(3)),
      runsOn: (peer) => !two(peer),
      measure: (peer) => costs(engines, peer, (one) => headSmall({ ...one, path: MANIFEST, connections: 16, seconds })),
    },
    get('fleet-blob-4k', '4 KiB blob GET', SMALL_BLOB, 16),
  ];
  return {
    id,
    rows: id === 'fleet-small' ? reads : [images(1), images(8), images(32)],
    weight: 0.8,
    open: () =>
      opened(
        context,
        (running) => [
          () => startFleet(context, running, 1, false),
          () => startOnS3(context, running, false),
          () => startFleet(context, running, 2, false),
        ],
        async (peer) => {
          await seedSmall(peer);
          for (const one of peer.instances ?? [peer]) {
            // Code is compiled, connections are there.
            if (id === 'fleet-images') await imagesOn(one, 4, 1);
            await getSmall({ ...one, path: MANIFEST, connections: 4, seconds: 1 }, tools);
          }
        },
        (running) => (engines = running),
      ),
  };
}

const LARGE: readonly Figure[] = [
  { key: 'rate', title: 'moved', unit: 'MiB/s', better: 'more', goals: times(1) },
  { key: 'cpu', title: 'server CPU per GiB', unit: 's', better: 'less' },
  { key: 'allCpu', title: 'CPU with PostgreSQL and S3 per GiB', unit: 's', better: 'less' },
  { key: 'peak', title: 'server memory at its peak', unit: 'MiB', better: 'less', goals: times(1) },
  { key: 'requests', title: 'requests to S3 in all', unit: '', better: 'less' },
];

async function large(engines: Engines, peer: Peer, work: () => Promise<Driven>): Promise<Values> {
  forgetPeak(peer.pid);
  const before = await engines.count(peer.data);
  const { bytes, seconds, cpu } = await work();
  const after = await engines.count(peer.data);
  const all = cpu + after.postgres - before.postgres + after.store - before.store;
  const gib = bytes / 1024 / MiB;
  return {
    rate: bytes / MiB / seconds,
    cpu: cpu / gib,
    allCpu: all / gib,
    peak: peakMemory(peer.pid),
    requests: after.requests - before.requests,
  };
}

/** Large blobs through the server. Everything is new in every round: the store would grow over the disk. */
export function fleetLargeGroup(context: Context): Group {
  const size = context.quick ? 96 * MiB : context.long || context.fleet ? 4096 * MiB : 512 * MiB;
  const [alone, together] = context.quick ? [1, 1] : [4, 1];
  const name = 'fleet-big';
  const text = size >= 1024 * MiB ? `${size / 1024 / MiB} GiB` : `${size / MiB} MiB`;
  let digest: string | undefined;
  let engines: Engines;
  const push = (peer: Peer, clients: number, each: number, push = `push-${sequence++}`): Promise<Driven> =>
    drive({ kind: 'push', url: peer.url, repository: 'bench/push', clients, each, size: SIZE, name: push }, peer.pid);
  /** The first one of a process is checked against the digest on its way. */
  const bigPull = (id: string, which: string, each: number): Row => ({
    id,
    title: `${which} of one blob of ${text} through the server`,
    figures: LARGE,
    measure(peer) {
      const paths = [`/v2/bench/big/blobs/${digest ?? ''}`];
      const asked = { url: peer.url, pid: peer.pid, paths, each, http: '1.1' } as const;
      return large(engines, peer, () => pull(asked, size, context.tools));
    },
  });
  const rows: Row[] = [
    // First: what a row leaves behind in memory would count for the next.
    {
      id: 'fleet-big-push',
      title: `Push of one blob of ${text}`,
      figures: LARGE,
      measure(peer) {
        digest ??= bigDigest(size, name);
        const task = { kind: 'big', url: peer.url, repository: 'bench/big', size, name, digest } as const;
        return large(engines, peer, () => drive(task, peer.pid, 600));
      },
    },
    bigPull('fleet-big-first', 'First pull', 1),
    bigPull('fleet-big-pull', 'Later pulls', 2),
    {
      id: 'fleet-push-1',
      title: '64 MiB blobs by POST and PUT, 1 client',
      figures: LARGE,
      measure: (peer) => large(engines, peer, () => push(peer, 1, alone)),
    },
    {
      id: 'fleet-push-4',
      title: '64 MiB blobs by POST and PUT, 4 clients',
      figures: LARGE,
      measure: (peer) => large(engines, peer, () => push(peer, 4, together)),
    },
  ];
  return {
    id: 'fleet-large',
    rows,
    fresh: true,
    weight: 3,
    open: () =>
      opened(
        context,
        (running) => [() => startFleet(context, running, 1, false), () => startOnS3(context, running, false)],
        (peer) => push(peer, 1, 1),
        (running) => (engines = running),
      ),
  };
}

/** Blobs that the client fetches from the store itself. */
export function fleetRedirectGroup(context: Context): Group {
  const { tools, quick } = context;
  const blob = blobOf(SIZE, 'redirected');
  const path = `/v2/bench/redirect/blobs/${blob.digest}`;
  let engines: Engines;
  const rows: Row[] = [
    {
      id: 'fleet-redirect',
      title: 'Redirects to the store, 16 connections',
      figures: figures('redirects', '/s', times(1)),
      measure: (peer) =>
        costs(engines, peer, (one) => getSmall({ ...one, path, connections: 16, seconds: quick ? 1 : 2 }, tools)),
    },
    {
      id: 'fleet-redirect-pull',
      title: '64 MiB blobs by redirect, 4 clients',
      figures: LARGE.map(({ goals: _, ...figure }) => figure),
      runsOn: () => tools.curl !== undefined,
      measure(peer) {
        const paths = [path, path, path, path];
        const asked = { url: peer.url, pid: peer.pid, paths, each: quick ? 1 : 6, http: '1.1', follow: true } as const;
        return large(engines, peer, () => pull(asked, SIZE, tools));
      },
    },
  ];
  return {
    id: 'fleet-redirect',
    rows,
    weight: 0.5,
    open: () =>
      opened(
        context,
        (running) => [() => startFleet(context, running, 1, true), () => startOnS3(context, running, true)],
        async (peer) => {
          const client = openClient(peer.url);
          try {
            await pushBlob(client, 'bench/redirect', blob);
          } finally {
            client.close();
          }
        },
        (running) => (engines = running),
      ),
  };
}
