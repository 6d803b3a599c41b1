/** The program's footprint: start, memory at rest, after load, and over much traffic. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { blobOf } from '../bytes.ts';
import { openClient, pushBlob } from '../client.ts';
import { descriptors, memory } from '../cpu.ts';
import { pull } from '../curl.ts';
import { drive } from '../drive.ts';
import { distributionArguments, folderFor, longshoreArguments, startDistribution, startLongshore } from '../peers.ts';
import { end, launch, untilUp } from '../processes.ts';
import { median } from '../stats.ts';
import type { Context, Goal, Group, Peer, Row, Values } from '../types.ts';
import { getSmall } from '../wrk.ts';
import { seedSmall } from './small.ts';

const MiB = 1024 * 1024;
const SIZE = 64 * MiB;

/** Stands for a program that every row starts by itself. */
function unstarted(name: 'longshore' | 'distribution'): Peer {
  return { name, url: '', pid: 0, data: '', stop: async () => undefined };
}

/** How a start is measured. `config`: Longshore with a configuration file, else by flags alone. */
interface StartKind {
  readonly config: boolean;
  /** On a folder that is new each time, else on the one that the first start made. */
  readonly empty: boolean;
}

const kept = new Map<string, string>();

/** Milliseconds from the start of the program to the first 200 on /v2/. `rest`: how long it stays up then. */
async function startUp(context: Context, name: string, kind: StartKind, rest: number): Promise<number> {
  let data = kind.empty ? undefined : kept.get(name);
  if (!kind.empty && data === undefined) {
    data = join(folderFor(context, `kept-${name}`), 'data');
    kept.set(name, data);
  }
  const start = { bare: !kind.config, ...(data === undefined ? {} : { data }) };
  const { at, program, args } = await (name === 'longshore'
    ? longshoreArguments(context, start)
    : distributionArguments(context, start));
  const started = performance.now();
  const child = launch(program, args, at.output);
  await untilUp(child, `http://${at.host}`, at.output, 3);
  const taken = performance.now() - started;
  await sleep(rest);
  await end(child);
  rmSync(at.folder, { recursive: true, force: true });
  return taken;
}

const startOf = (context: Context, name: string): Promise<Peer> =>
  name === 'longshore' ? startLongshore(context, { bare: true }) : startDistribution(context);

/** Starts it, does the work, and ends it. */
async function during(context: Context, name: string, work: (peer: Peer) => Promise<Values>): Promise<Values> {
  const peer = await startOf(context, name);
  try {
    return await work(peer);
  } finally {
    await peer.stop();
  }
}

/** Small reads, images and large pushes, so that every part has worked. */
async function load(context: Context, peer: Peer): Promise<void> {
  const seconds = context.quick ? 1 : 8;
  const { url, pid } = peer;
  await seedSmall(peer);
  await getSmall({ url, pid, path: '/v2/bench/small/manifests/latest', connections: 16, seconds }, context.tools);
  await drive({ kind: 'images', url, repository: 'bench/load', clients: 8, seconds, name: 'load' }, pid);
  const each = context.quick ? 1 : 6;
  await drive({ kind: 'push', url, repository: 'bench/load', clients: 4, each, size: SIZE, name: 'load' }, pid);
}

/** Files of uploads that Longshore has on disk. */
function uploadFiles(peer: Peer): number {
  return readdirSync(join(peer.data, 'storage/uploads')).length;
}

/** The same blobs pushed and pulled again and again, then aborted transfers: what is left, and how memory went. */
async function endless(context: Context, peer: Peer): Promise<Values> {
  const { url, pid } = peer;
  const [cycles, each, aborts] = context.long ? [50, 4, 20_000] : context.quick ? [2, 1, 60] : [4, 4, 2_000];
  const repository = 'bench/endless';
  const sizes: number[] = [];
  const paths = Array.from(
    { length: 4 },
    (_, index) => `/v2/${repository}/blobs/${blobOf(SIZE, `same/${index}/0`).digest}`,
  );
  const first = openClient(url);
  await pushBlob(first, repository, blobOf(SIZE, 'first'));
  first.close();
  let bytes = 0;
  for (let cycle = 0; cycle < cycles; cycle++) {
    const pushed = await drive({ kind: 'push', url, repository, clients: 4, each, size: SIZE, name: 'same' }, pid);
    const pulled = await pull({ url, pid, paths, each, http: '1.1' }, SIZE, context.tools);
    bytes += pushed.bytes + pulled.bytes;
    sizes.push(memory(pid).rss);
    if (context.long)
      context.say(`endless: ${(bytes / 1024 / MiB).toFixed(0)} GiB, RSS ${sizes.at(-1)!.toFixed(0)} MiB`);
  }
  await sleep(1_000);
  const before = descriptors(pid);
  const parts = context.quick ? 2 : 4;
  for (let part = 0; part < parts; part++) {
    const count = aborts / parts;
    const task = { kind: 'aborts', url, repository, path: paths[0]!, size: 8 * MiB, count, connections: 16 } as const;
    await drive(task, pid, 900);
    sizes.push(memory(pid).rss);
  }
  context.say(`  endless: RSS after each step ${sizes.map((size) => size.toFixed(0)).join(' ')} MiB`);
  // Closed sockets and finished uploads are let go within moments.
  const isLeft = (): boolean => descriptors(pid) > before || uploadFiles(peer) > 0;
  for (let wait = 0; wait < 40 && isLeft(); wait++) await sleep(250);
  const settled = sizes.slice(1);
  const middle = median(settled);
  return {
    traffic: bytes / 1024 / MiB,
    aborts,
    swing: Math.max(...settled.map((size) => Math.abs(size - middle))),
    peak: Math.max(...sizes),
    descriptors: Math.max(0, descriptors(pid) - before),
    files: uploadFiles(peer),
  };
}

export function footprintGroup(context: Context): Group {
  const [idle, after] = context.quick ? [2_000, 4_000] : [10_000, 60_000];
  const memoryOf = async (peer: Peer, rest: number): Promise<Values> => {
    await sleep(rest);
    const { rss, anonymous } = memory(peer.pid);
    return { rss, anonymous };
  };
  const startRow = (id: string, title: string, kind: StartKind, goals: readonly Goal[] = []): Row => ({
    id,
    title,
    figures: [{ key: 'ms', title: 'to the first 200 on /v2/', unit: 'ms', better: 'less', goals }],
    measure: async (peer) => ({ ms: await startUp(context, peer.name, kind, 0) }),
  });
  return {
    id: 'footprint',
    weight: 1.5,
    rows: [
      startRow('start', 'Start on its folder', { config: false, empty: false }, [{ atMost: 150 }]),
      startRow('start-config', 'Start on its folder, with a configuration file', { config: true, empty: false }),
      startRow('start-empty', 'Start on an empty folder', { config: false, empty: true }),
      {
        id: 'idle',
        title: `Memory at rest, ${idle / 1000} s after the start`,
        rounds: 1,
        figures: [
          { key: 'rss', title: 'RSS', unit: 'MiB', better: 'less', goals: [{ atMost: 85 }] },
          { key: 'anonymous', title: 'of it anonymous', unit: 'MiB', better: 'less', goals: [{ atMost: 35 }] },
        ],
        measure: ({ name }) => during(context, name, (peer) => memoryOf(peer, idle)),
      },
      {
        id: 'loaded',
        title: `Memory ${after / 1000} s after load`,
        rounds: 1,
        runsOn: (peer) => peer.name === 'longshore',
        figures: [
          { key: 'rss', title: 'RSS', unit: 'MiB', better: 'less', goals: [{ atMost: 100 }] },
          { key: 'anonymous', title: 'of it anonymous', unit: 'MiB', better: 'less' },
          { key: 'busy', title: 'RSS at the end of the load', unit: 'MiB', better: 'less' },
        ],
        measure: ({ name }) =>
          during(context, name, async (peer) => {
            await load(context, peer);
            const busy = memory(peer.pid).rss;
            return { ...(await memoryOf(peer, after)), busy };
          }),
      },
      {
        id: 'endless',
        title: 'The same blobs again and again, then aborted transfers',
        rounds: 1,
        runsOn: (peer) => peer.name === 'longshore',
        figures: [
          { key: 'traffic', title: 'traffic', unit: 'GiB', better: 'more' },
          { key: 'aborts', title: 'aborted transfers', unit: '', better: 'more' },
          {
            key: 'swing',
            title: 'most that RSS left its median, ±',
            unit: 'MiB',
            better: 'less',
            goals: [{ atMost: 32 }],
          },
          { key: 'peak', title: 'largest RSS between steps', unit: 'MiB', better: 'less' },
          { key: 'descriptors', title: 'descriptors left', unit: '', better: 'less', goals: [{ atMost: 0 }] },
          { key: 'files', title: 'upload files left', unit: '', better: 'less', goals: [{ atMost: 0 }] },
        ],
        measure: ({ name }) => during(context, name, (peer) => endless(context, peer)),
      },
    ],
    async open() {
      // Warm starts: the compile cache is written some seconds after the first, and files are in the page cache.
      const rest = context.quick ? 2_500 : 4_000;
      await startUp(context, 'longshore', { config: false, empty: false }, rest);
      await startUp(context, 'longshore', { config: true, empty: false }, rest);
      const hasPeer = context.tools.distribution !== undefined;
      if (hasPeer) await startUp(context, 'distribution', { config: true, empty: false }, 0);
      return hasPeer ? [unstarted('longshore'), unstarted('distribution')] : [unstarted('longshore')];
    },
  };
}
