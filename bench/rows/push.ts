/** Durable pushes: 64 MiB blobs whole and in chunks, and small images with paced GETs beside them. */
import { drive, openDriver } from '../drive.ts';
import { measureLimits } from '../limits.ts';
import type { PushTask } from '../load/task.ts';
import { machinePeer, startPeers } from '../peers.ts';
import type { Context, Figure, Goal, Group, Peer, Row, Values } from '../types.ts';
import { seedSmall } from './small.ts';

const MiB = 1024 * 1024;
const SIZE = 64 * MiB;
const CHUNK = 8 * MiB;
const PROBED = '/v2/bench/small/manifests/latest';
/** A GET beside the images every so many milliseconds. */
const PACE = 5;

let sequence = 0;

function pushFigures(times: number): Figure[] {
  const rate: Goal[] = [{ times, of: 'distribution' }];
  return [
    { key: 'rate', title: 'pushed', unit: 'MiB/s', better: 'more', goals: rate },
    {
      key: 'cpu',
      title: 'server CPU per GiB',
      unit: 's',
      better: 'less',
      goals: [{ times: 1, of: 'distribution' }],
    },
  ];
}

async function push(peer: Peer, clients: number, each: number, chunk?: number): Promise<Values> {
  const task: PushTask = {
    kind: 'push',
    url: peer.url,
    repository: 'bench/push',
    clients,
    each,
    size: SIZE,
    name: `push-${sequence++}`,
    ...(chunk === undefined ? {} : { chunk }),
  };
  const { bytes, seconds, cpu } = await drive(task, peer.pid);
  return { rate: bytes / MiB / seconds, cpu: (cpu / bytes) * 1024 * MiB };
}

async function images(peer: Peer, clients: number, seconds: number): Promise<Values> {
  const probe = await openDriver({ kind: 'probe', url: peer.url, path: PROBED, every: PACE }, seconds + 120);
  try {
    const probing = probe.go();
    // Where the images fail, that error is the one to tell.
    probing.catch(() => undefined);
    const done = await drive(
      { kind: 'images', url: peer.url, repository: 'bench/image', clients, seconds, name: `image-${sequence++}` },
      peer.pid,
    );
    probe.stop();
    const probed = await probing;
    if (probed.errors > 0) throw new Error(`${probed.errors} of ${probed.count} GETs beside the images failed`);
    return {
      rate: done.count / done.seconds,
      cpu: (done.cpu / done.count) * 1000,
      p99: done.p99,
      getP99: probed.p99,
      getWorst: probed.worst,
    };
  } finally {
    probe.close();
  }
}

function imageRow(clients: number, times: number, seconds: number): Row {
  return {
    id: `images-${clients}`,
    title: `Small images (2 × 10 KB, configuration, manifest), ${clients} client${clients > 1 ? 's' : ''}`,
    figures: [
      { key: 'rate', title: 'images', unit: '/s', better: 'more', goals: [{ times, of: 'distribution' }] },
      { key: 'cpu', title: 'server CPU per image (with the GETs)', unit: 'ms', better: 'less' },
      { key: 'p99', title: 'p99 of an image', unit: 'ms', better: 'less' },
      { key: 'getP99', title: 'p99 of paced GETs meanwhile', unit: 'ms', better: 'less', goals: [{ atMost: 10 }] },
      { key: 'getWorst', title: 'worst of these GETs', unit: 'ms', better: 'less' },
    ],
    measure: (peer) => images(peer, clients, seconds),
  };
}

function pushRow(id: string, title: string, times: number, clients: number, each: number, chunk?: number): Row {
  return { id, title, figures: pushFigures(times), measure: (peer) => push(peer, clients, each, chunk) };
}

export function pushGroup(context: Context): Group {
  const { quick } = context;
  const [alone, together, seconds] = quick ? [1, 1, 1] : [8, 4, 2];
  const rows: Row[] = [
    {
      id: 'limits',
      title: 'This machine',
      figures: [
        { key: 'write', title: 'sequential write with one sync', unit: 'MiB/s', better: 'more' },
        { key: 'syncs', title: '4 KiB overwrites, each synced', unit: '/s', better: 'more' },
        { key: 'sha256', title: 'one SHA-256 stream', unit: 'MiB/s', better: 'more' },
      ],
      runsOn: (peer) => peer.name === 'machine',
      measure: async (peer) => measureLimits(peer.data, quick ? 64 : 512),
    },
    pushRow('push-1', '64 MiB blobs by POST and PUT, 1 client', 1.5, 1, alone),
    pushRow('push-4', '64 MiB blobs by POST and PUT, 4 clients', 1, 4, together),
    pushRow('chunks-1', '64 MiB blobs in chunks of 8 MiB, 1 client', 1.5, 1, alone, CHUNK),
    pushRow('chunks-4', '64 MiB blobs in chunks of 8 MiB, 4 clients', 1, 4, together, CHUNK),
    imageRow(1, 5, seconds),
    imageRow(8, 10, seconds),
  ];
  return {
    id: 'push',
    rows,
    fresh: true,
    weight: 3,
    async open() {
      const peers = await startPeers(context);
      try {
        for (const peer of peers) {
          await seedSmall(peer);
          // Once before it counts: memory is allotted, code compiled.
          await push(peer, 1, 1);
        }
      } catch (error) {
        await Promise.allSettled(peers.map((peer) => peer.stop()));
        throw error;
      }
      return [...peers, machinePeer(context)];
    },
  };
}
