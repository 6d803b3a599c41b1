/** Pulls of large blobs from the page cache, plain and over TLS. */
import { blobOf } from '../bytes.ts';
import { each, openClient, pushBlob } from '../client.ts';
import { pull } from '../curl.ts';
import { startPeers } from '../peers.ts';
import type { Context, Figure, Group, Peer, Row, Values } from '../types.ts';

const MiB = 1024 * 1024;
const REPOSITORY = 'bench/pull';

const FIGURES: readonly Figure[] = [
  { key: 'rate', title: 'pulled', unit: 'MiB/s', better: 'more', goals: [{ times: 1.2, of: 'distribution' }] },
  {
    key: 'cpu',
    title: 'server CPU per GiB',
    unit: 's',
    better: 'less',
    goals: [{ times: 0.8, of: 'distribution' }],
  },
];
/** Over TLS only the rate has a goal. */
const TLS_FIGURES: readonly Figure[] = FIGURES.map(({ goals, ...figure }) =>
  figure.key === 'rate' && goals !== undefined ? { ...figure, goals } : figure,
);

function sizesOf(context: Context): { readonly big: number; readonly middle: number } {
  return context.quick ? { big: 128 * MiB, middle: 32 * MiB } : { big: 1024 * MiB, middle: 100 * MiB };
}

async function seed(context: Context, peer: Peer): Promise<void> {
  const { big, middle } = sizesOf(context);
  const client = openClient(peer.url, { connections: 2, ...(peer.ca === undefined ? {} : { ca: peer.ca }) });
  try {
    await pushBlob(client, REPOSITORY, blobOf(big, 'pull/big'));
    await each(4, 2, (index) => pushBlob(client, REPOSITORY, blobOf(middle, `pull/${index}`)));
  } finally {
    client.close();
  }
}

function group(context: Context, tls: boolean): Group {
  const { big, middle } = sizesOf(context);
  const pathOf = (size: number, name: string): string => `/v2/${REPOSITORY}/blobs/${blobOf(size, name).digest}`;
  const measure = async (
    peer: Peer,
    size: number,
    names: readonly string[],
    times: number,
    http: '1.1' | '2',
  ): Promise<Values> => {
    const paths = names.map((name) => pathOf(size, name));
    const asked = { url: peer.url, pid: peer.pid, ca: peer.ca, paths, each: times, http };
    const { bytes, seconds, cpu } = await pull(asked, size, context.tools);
    return { rate: bytes / MiB / seconds, cpu: (cpu / bytes) * 1024 * MiB };
  };
  const many = ['pull/0', 'pull/1', 'pull/2', 'pull/3'];
  const [alone, together] = context.quick ? [2, 2] : tls ? [2, 6] : [4, 12];
  const name = tls ? 'pull-tls' : 'pull';
  const over = tls ? ' over TLS' : '';
  const bigText = `${big / MiB} MiB`;
  const row = (
    id: string,
    title: string,
    size: number,
    names: readonly string[],
    times: number,
    http: '1.1' | '2',
  ): Row => ({
    id,
    title,
    figures: tls ? TLS_FIGURES : FIGURES,
    measure: (peer) => measure(peer, size, names, times, http),
  });
  const rows = [
    row(`${name}-1`, `Pull of ${bigText}, 1 client${over}, HTTP/1.1`, big, ['pull/big'], alone, '1.1'),
    row(`${name}-4`, `Pulls of ${middle / MiB} MiB, 4 clients${over}, HTTP/1.1`, middle, many, together, '1.1'),
  ];
  if (tls) rows.push(row(`${name}-h2`, `Pull of ${bigText}, 1 client${over}, HTTP/2`, big, ['pull/big'], alone, '2'));
  return {
    id: name,
    rows,
    weight: tls ? 1.3 : 1,
    async open() {
      const peers = await startPeers(context, { tls });
      try {
        for (const peer of peers) await seed(context, peer);
        return peers;
      } catch (error) {
        await Promise.allSettled(peers.map((peer) => peer.stop()));
        throw error;
      }
    },
  };
}

export const pullGroup = (context: Context): Group => group(context, false);
export const pullTlsGroup = (context: Context): Group => group(context, true);
