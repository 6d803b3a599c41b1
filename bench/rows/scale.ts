/** Whether much data costs: tags among 100,000 and among 10, and a catalog of 10,000 repositories. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { blobOf, imageOf, type Manifest, tagOf } from '../bytes.ts';
import { type Client, each, openClient, pushBlob, pushManifest } from '../client.ts';
import { startPeers } from '../peers.ts';
import { median } from '../stats.ts';
import type { Context, Figure, Goal, Group, Peer, Row, Values } from '../types.ts';
import { headSmall } from '../wrk.ts';

const FEW = 'bench/few-tags';
const MANY = 'bench/many-tags';
const FEW_TAGS = 10;
/** Tags that one push of Longshore sets. */
const TAGS_A_PUSH = 50;
const PAGE = 10;
const CATALOG_PAGE = 100;
/** What `?tag=` cannot do elsewhere; so many seconds of a latency loop. */
const EMPTY_INDEX: Pick<Manifest, 'bytes' | 'mediaType'> = {
  mediaType: 'application/vnd.oci.image.index.v1+json',
  bytes: Buffer.from('{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'),
};

interface Scale {
  readonly longshoreTags: number;
  readonly distributionTags: number;
  readonly repositories: number;
  /** Seconds of each measurement. */
  readonly seconds: number;
}

const tagsOn = (peer: Peer, scale: Scale): number =>
  peer.name === 'longshore' ? scale.longshoreTags : scale.distributionTags;

const CONFIG = blobOf(1536, 'scale/config');
const LAYER = blobOf(10_240, 'scale/layer');
const IMAGES = Array.from({ length: 20 }, (_, index) => imageOf(CONFIG, [LAYER], `scale ${index}`));

async function seedFew(client: Client, repository: string): Promise<void> {
  await pushBlob(client, repository, CONFIG);
  await pushBlob(client, repository, LAYER);
  for (const [index, image] of IMAGES.entries()) {
    await pushManifest(client, repository, index < FEW_TAGS ? tagOf(index) : image.digest, image);
  }
}

async function seedLongshore(client: Client, scale: Scale): Promise<void> {
  await each(scale.longshoreTags / TAGS_A_PUSH, 8, async (push) => {
    const tags = Array.from({ length: TAGS_A_PUSH }, (_, index) => `tag=${tagOf(push * TAGS_A_PUSH + index)}`);
    const image = IMAGES[push % IMAGES.length]!;
    await pushManifest(client, MANY, image.digest, image, `?${tags.join('&')}`);
  });
  await each(scale.repositories, 16, (index) => pushManifest(client, repositoryOf(index), 'latest', EMPTY_INDEX));
}

const repositoryOf = (index: number): string => `catalog/${tagOf(index)}`;

/** Distribution by its files: a tag is a link in a folder of its own, a repository one with `_manifests`. */
function seedDistribution(peer: Peer, scale: Scale): void {
  const root = join(peer.data, 'docker/registry/v2/repositories');
  for (let index = FEW_TAGS; index < scale.distributionTags; index++) {
    const folder = join(root, MANY, '_manifests/tags', tagOf(index), 'current');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'link'), IMAGES[index % IMAGES.length]!.digest);
  }
  for (let index = 0; index < scale.repositories; index++) {
    mkdirSync(join(root, repositoryOf(index), '_manifests/tags'), { recursive: true });
  }
}

/** Median milliseconds of two calls that take turns, for so many seconds and at least five times. */
async function inTurn(
  seconds: number,
  first: (index: number) => Promise<unknown>,
  second: (index: number) => Promise<unknown>,
): Promise<[number, number]> {
  const taken: [number[], number[]] = [[], []];
  const until = performance.now() + seconds * 1000;
  for (let index = 0; index < 5 || (performance.now() < until && index < 5_000); index++) {
    for (const which of index % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
      const from = performance.now();
      await (which === 0 ? first : second)(index);
      taken[which].push(performance.now() - from);
    }
  }
  return [median(taken[0]), median(taken[1])];
}

/** The first calls find cold caches and uncompiled code in both repositories. */
async function warmed(work: (index: number) => Promise<unknown>): Promise<void> {
  for (let index = 0; index < 3; index++) await work(index);
}

function compared(
  unit: string,
  better: 'more' | 'less',
  goals: readonly Goal[],
  texts: readonly [string, string],
): Figure[] {
  const factor: Goal = better === 'more' ? { atLeast: 1 / 1.2 } : { atMost: 1.2 };
  return [
    { key: 'few', title: texts[0], unit, better },
    { key: 'many', title: texts[1], unit, better, goals },
    { key: 'factor', title: 'many ÷ few', unit: '×', better, goals: [factor] },
  ];
}

export function scaleGroup(context: Context): Group {
  const scale: Scale = context.quick
    ? { longshoreTags: 2_000, distributionTags: 500, repositories: 300, seconds: 0.5 }
    : { longshoreTags: 100_000, distributionTags: 10_000, repositories: 10_000, seconds: 1.5 };
  const texts = [
    `among ${FEW_TAGS}`,
    `among ${scale.longshoreTags.toLocaleString('en')} (Distribution: ${scale.distributionTags.toLocaleString('en')})`,
  ] as const;

  const rows: Row[] = [
    {
      id: 'head-tags',
      title: 'HEAD by a random tag, 16 connections',
      figures: compared('/s', 'more', [{ times: 10, of: 'distribution' }], texts),
      async measure(peer) {
        const rates: Record<string, number[]> = { [FEW]: [], [MANY]: [] };
        for (const repository of [FEW, MANY, MANY, FEW]) {
          const { count, seconds } = await headSmall({
            url: peer.url,
            pid: peer.pid,
            path: `/v2/${repository}/manifests/`,
            tags: repository === FEW ? FEW_TAGS : tagsOn(peer, scale),
            connections: 16,
            seconds: scale.seconds / 2,
          });
          rates[repository]!.push(count / seconds);
        }
        const [few, many] = [median(rates[FEW]!), median(rates[MANY]!)];
        return { few, many, factor: many / few };
      },
    },
    {
      id: 'last-tags',
      title: `The last ${PAGE} tags, median of one client`,
      figures: compared('ms', 'less', [{ times: 0.1, of: 'distribution' }], texts),
      async measure(peer) {
        const client = openClient(peer.url);
        const last = tagOf(tagsOn(peer, scale) - PAGE - 1);
        const list = (path: string) => async (): Promise<void> => {
          const { body } = await client.ask('GET', path);
          const { tags } = JSON.parse(body.toString()) as { tags: string[] };
          if (tags.length !== PAGE) throw new Error(`${tags.length} tags instead of ${PAGE}`);
        };
        try {
          const [first, second] = [
            list(`/v2/${FEW}/tags/list?n=${PAGE}`),
            list(`/v2/${MANY}/tags/list?n=${PAGE}&last=${last}`),
          ];
          await warmed(first);
          await warmed(second);
          const [few, many] = await inTurn(scale.seconds, first, second);
          return { few, many, factor: many / few };
        } finally {
          client.close();
        }
      },
    },
    {
      id: 'move-tag',
      title: 'A tag moved, median of one client',
      figures: compared('ms', 'less', [], texts),
      async measure(peer) {
        const client = openClient(peer.url);
        const move = (repository: string, tags: number) => (index: number) => {
          // Every visit to a tag finds it at another image than the one it is moved to.
          const tag = Math.imul(index, 7_919) % tags;
          const image = IMAGES[(tag + Math.floor(Math.random() * (IMAGES.length - 1)) + 1) % IMAGES.length]!;
          return pushManifest(client, repository, tagOf(Math.abs(tag)), image);
        };
        try {
          const [first, second] = [move(FEW, FEW_TAGS), move(MANY, tagsOn(peer, scale))];
          await warmed(first);
          await warmed(second);
          const [few, many] = await inTurn(scale.seconds, first, second);
          return { few, many, factor: many / few };
        } finally {
          client.close();
        }
      },
    },
    {
      id: 'catalog',
      title: `The catalog of ${scale.repositories.toLocaleString('en')} repositories in pages of ${CATALOG_PAGE}`,
      figures: [
        { key: 'page', title: 'median page', unit: 'ms', better: 'less', goals: [{ atMost: 5 }] },
        { key: 'worst', title: 'slowest page', unit: 'ms', better: 'less' },
      ],
      measure: (peer) => catalog(peer, scale),
    },
  ];
  return {
    id: 'scale',
    rows,
    weight: 1.8,
    async open() {
      const peers = await startPeers(context, { config: { manifests: { sparse: 'all' } } }, false);
      try {
        for (const peer of peers) {
          const client = openClient(peer.url, { connections: 16 });
          try {
            await seedFew(client, FEW);
            await seedFew(client, MANY);
            if (peer.name === 'longshore') await seedLongshore(client, scale);
            else seedDistribution(peer, scale);
          } finally {
            client.close();
          }
        }
        return peers;
      } catch (error) {
        await Promise.allSettled(peers.map((peer) => peer.stop()));
        throw error;
      }
    },
  };
}

/** Pages by the Link header until the end, or for so many seconds and at least five pages where pages are slow. */
async function catalog(peer: Peer, scale: Scale): Promise<Values> {
  const client = openClient(peer.url);
  const taken: number[] = [];
  let found = 0;
  const until = performance.now() + scale.seconds * 1000;
  try {
    let path: string | undefined = `/v2/_catalog?n=${CATALOG_PAGE}`;
    while (path !== undefined && (taken.length < 5 || performance.now() < until)) {
      const from = performance.now();
      const { body, headers } = await client.ask('GET', path);
      taken.push(performance.now() - from);
      found += (JSON.parse(body.toString()) as { repositories: string[] }).repositories.length;
      const link = /<([^>]+)>/.exec(String(headers.link ?? ''))?.[1];
      path = link === undefined ? undefined : new URL(link, peer.url).pathname + new URL(link, peer.url).search;
    }
    if (path === undefined && found < scale.repositories) throw new Error(`the catalog ended after ${found} names`);
    return { page: median(taken), worst: Math.max(...taken) };
  } finally {
    client.close();
  }
}
