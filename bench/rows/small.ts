/** Small reads over 16 connections: manifests by tag, anonymous and with a verified token, and 4 KiB blobs. */
import { ACCEPT, blobOf, imageOf } from '../bytes.ts';
import { openClient, pushBlob, pushManifest } from '../client.ts';
import type { Driven } from '../drive.ts';
import { SECURED_REPOSITORY, startBare, startPeers } from '../peers.ts';
import type { Context, Figure, Goal, Group, Peer, Row, Values } from '../types.ts';
import { getSmall, headSmall } from '../wrk.ts';

const REPOSITORY = SECURED_REPOSITORY;
const CONNECTIONS = 16;
const BLOB = blobOf(4096, 'small/4k');
const MANIFEST = `/v2/${REPOSITORY}/manifests/latest`;
const SMALL_BLOB = `/v2/${REPOSITORY}/blobs/${BLOB.digest}`;

/** Pushes the image (a manifest of about 1 KiB) and the small blob. */
export async function seedSmall(peer: Peer): Promise<void> {
  const client = openClient(peer.url, peer.ca === undefined ? {} : { ca: peer.ca });
  try {
    const config = blobOf(1536, 'small/config');
    const layers = Array.from({ length: 4 }, (_, index) => blobOf(10_240, `small/${index}`));
    for (const blob of [BLOB, config, ...layers]) await pushBlob(client, REPOSITORY, blob);
    await pushManifest(client, REPOSITORY, 'latest', imageOf(config, layers, 'small'));
  } finally {
    client.close();
  }
}

/** What a peer answers, for the bare server to repeat: the same headers and bytes. */
async function answersOf(peer: Peer): Promise<object> {
  const client = openClient(peer.url);
  try {
    const answers: Record<string, object> = {};
    for (const path of [MANIFEST, SMALL_BLOB]) {
      const { headers, body } = await client.ask('GET', path, { headers: { accept: ACCEPT } });
      const { date, connection, 'keep-alive': keepAlive, ...kept } = headers;
      answers[path] = { headers: kept, body: body.toString('base64') };
    }
    return answers;
  } finally {
    client.close();
  }
}

function figures(rate: readonly Goal[]): Figure[] {
  return [
    { key: 'rate', title: 'requests', unit: '/s', better: 'more', goals: rate },
    { key: 'cpu', title: 'server CPU per 1,000', unit: 's', better: 'less' },
    { key: 'p99', title: 'p99', unit: 'ms', better: 'less' },
  ];
}

function valuesOf({ count, seconds, cpu, p99 }: Driven): Values {
  return { rate: count / seconds, cpu: (cpu / count) * 1000, p99 };
}

export function smallGroup(context: Context): Group {
  const seconds = context.quick ? 1 : 2;
  const manifestGoals: Goal[] = [
    { times: 0.6, of: 'bare' },
    { times: 5, of: 'distribution' },
  ];
  const common = { connections: CONNECTIONS, seconds };
  const plain = (peer: Peer) => ({ ...common, url: peer.url, pid: peer.pid });
  const secured = (peer: Peer) => ({ ...common, ...peer.secured! });
  const isSecured = (peer: Peer): boolean => peer.secured !== undefined;
  const rows: Row[] = [
    {
      id: 'manifest-get',
      title: 'Manifest GET by tag, 16 connections',
      figures: figures(manifestGoals),
      measure: async (peer) => valuesOf(await getSmall({ ...plain(peer), path: MANIFEST }, context.tools)),
    },
    {
      id: 'manifest-head',
      title: 'Manifest HEAD by tag, 16 connections',
      figures: figures(manifestGoals),
      measure: async (peer) => valuesOf(await headSmall({ ...plain(peer), path: MANIFEST })),
    },
    {
      id: 'manifest-get-token',
      title: 'Manifest GET by tag with a verified Bearer token, 16 connections',
      figures: figures(manifestGoals),
      runsOn: isSecured,
      measure: async (peer) => valuesOf(await getSmall({ ...secured(peer), path: MANIFEST }, context.tools)),
    },
    {
      id: 'manifest-head-token',
      title: 'Manifest HEAD by tag with a verified Bearer token, 16 connections',
      figures: figures(manifestGoals),
      runsOn: isSecured,
      measure: async (peer) => valuesOf(await headSmall({ ...secured(peer), path: MANIFEST })),
    },
    {
      id: 'blob-4k',
      title: '4 KiB blob GET, 16 connections',
      figures: figures([{ times: 15, of: 'distribution' }]),
      measure: async (peer) => valuesOf(await getSmall({ ...plain(peer), path: SMALL_BLOB }, context.tools)),
    },
  ];
  return {
    id: 'small',
    rows,
    weight: 2.5,
    async open() {
      const peers = await startPeers(context, { tokens: true });
      try {
        for (const peer of peers) await seedSmall(peer);
        const bare = await startBare(context, await answersOf(peers[0]!));
        return [...peers, bare];
      } catch (error) {
        await Promise.allSettled(peers.map((peer) => peer.stop()));
        throw error;
      }
    },
  };
}
