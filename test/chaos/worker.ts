/** One client of the kill tests: pushes, mounts, moves tags and deletes in its own repository until the server dies. */
import { randomBytes } from 'node:crypto';
import type { Answer, Client } from '../support/client.ts';
import { type Image, image, type Piece, piece, TYPES } from '../support/images.ts';
import type { Choices } from '../support/random.ts';
import { blobEntry, manifestEntry, neededBlobs, type RepositoryLedger } from './ledger.ts';

/** Thrown where the connection broke: the server is dead, and what was under way is unsure. */
export class ServerGone extends Error {}

/** What a worker works with. */
export interface WorkerParts {
  readonly http: Client;
  readonly ledger: RepositoryLedger;
  readonly others: readonly RepositoryLedger[];
  readonly random: Choices;
  /** Whether the work goes on. */
  readonly going: () => boolean;
  /** Waits where there was work enough for now: the machine is not to be kept busy for nothing. */
  readonly pace: () => Promise<void>;
  /** Counts of what was acknowledged, and of answers 503. */
  readonly counts: Map<string, number>;
  /** Answers that are wrong. */
  readonly wrong: string[];
}

const LARGE = 2 * 1024 * 1024;
const CHUNK = 512 * 1024;
const MOST_LARGE = 5;
const MOST_MANIFESTS = 12;
const OCTETS = { 'content-type': 'application/octet-stream' };
const TAGS = ['latest', 'stable', 'edge'];

/** Runs operations one after the other until the work ends or the server is gone. */
export async function work(parts: WorkerParts): Promise<void> {
  const { ledger, random, counts, wrong } = parts;
  const base = `/v2/${ledger.name}`;

  const count = (what: string): void => void counts.set(what, (counts.get(what) ?? 0) + 1);

  async function send(
    method: string,
    path: string,
    ask: { headers?: Record<string, string>; body?: Uint8Array } = {},
  ): Promise<Answer> {
    try {
      return await parts.http.send(method, path, ask);
    } catch (error) {
      throw new ServerGone(String(error));
    }
  }

  /** Whether the answer is the wanted one; another is noted, 503 apart. */
  function is(answer: Answer, wanted: number, what: string): boolean {
    if (answer.status === wanted) {
      count(what);
      return true;
    }
    if (answer.status === 503) count('503');
    else wrong.push(`${what} in ${ledger.name}: ${answer.status} ${answer.body.toString().slice(0, 300)}`);
    return false;
  }

  const locationOf = (answer: Answer): string => {
    const { pathname, search } = new URL(answer.headers.location ?? '', parts.http.url);
    return pathname + search;
  };
  const withDigest = (location: string, digest: string): string =>
    `${location}${location.includes('?') ? '&' : '?'}digest=${digest}`;

  /** Marks the blob unsure, sends what ends its push, and marks it there when that is acknowledged. */
  async function commit(blob: Piece, location: string, body?: Uint8Array, what = 'blob push'): Promise<boolean> {
    const entry = blobEntry(ledger, blob);
    const before = entry.state;
    entry.state = before === 'there' ? 'there' : 'unsure';
    const answer = await send('PUT', withDigest(location, blob.digest), {
      headers: OCTETS,
      ...(body === undefined ? {} : { body }),
    });
    if (is(answer, 201, what)) entry.state = 'there';
    return entry.state === 'there';
  }

  async function pushWhole(blob: Piece): Promise<boolean> {
    if (random.chance(30)) {
      const entry = blobEntry(ledger, blob);
      if (entry.state !== 'there') entry.state = 'unsure';
      const path = `${base}/blobs/uploads/?digest=${blob.digest}`;
      if (is(await send('POST', path, { headers: OCTETS, body: blob.bytes }), 201, 'blob push in one'))
        entry.state = 'there';
      return entry.state === 'there';
    }
    const started = await send('POST', `${base}/blobs/uploads/`);
    return is(started, 202, 'upload start') && (await commit(blob, locationOf(started), blob.bytes));
  }

  /** PATCHes from an offset on, then PUT; a cut leaves a note to go on from. */
  async function pushFrom(blob: Piece, start: string, from: number): Promise<boolean> {
    let location = start;
    let at = from;
    while (at < blob.bytes.length) {
      const body = blob.bytes.subarray(at, at + CHUNK);
      try {
        const range = `${at}-${at + body.length - 1}`;
        const answer = await send('PATCH', location, { headers: { ...OCTETS, 'content-range': range }, body });
        if (!is(answer, 202, 'chunk')) return false;
        location = locationOf(answer);
        at += body.length;
      } catch (error) {
        ledger.uploads.push({ location, piece: blob, acknowledged: at, sent: at + body.length });
        throw error;
      }
    }
    return await commit(blob, location, undefined, 'chunked push');
  }

  async function pushChunked(): Promise<void> {
    const blob = piece(randomBytes(LARGE + random.below(100_000)));
    const started = await send('POST', `${base}/blobs/uploads/`);
    if (is(started, 202, 'upload start')) await pushFrom(blob, locationOf(started), 0);
  }

  /** Goes on with an upload that a kill had cut off. What was acknowledged of it has to be there still. */
  async function resume(): Promise<void> {
    const cut = ledger.uploads.pop();
    if (cut === undefined) return;
    let status: Answer;
    try {
      status = await send('GET', cut.location);
    } catch (error) {
      ledger.uploads.push(cut);
      throw error;
    }
    if (status.status === 404) {
      if (cut.acknowledged > 0)
        wrong.push(`an upload in ${ledger.name} with ${cut.acknowledged} acknowledged bytes is gone`);
      return;
    }
    if (!is(status, 204, 'upload status')) return;
    const range = /^(?:bytes=)?0-(\d+)$/.exec(String(status.headers.range ?? ''));
    const has = Number(range?.[1] ?? -1) + 1;
    // An empty upload says 0-0, as one of a single byte does.
    const at = has === 1 && cut.acknowledged === 0 ? 0 : has;
    if (at < cut.acknowledged || at > cut.sent) {
      wrong.push(
        `an upload in ${ledger.name} has ${at} bytes, ${cut.acknowledged} were acknowledged, ${cut.sent} sent`,
      );
      return;
    }
    count('resumed');
    await pushFrom(cut.piece, locationOf(status), at);
  }

  async function pushManifest(pushed: Image, tag: string | undefined): Promise<void> {
    const { manifest } = pushed;
    const entry = manifestEntry(ledger, pushed);
    const allowed = tag === undefined ? undefined : (ledger.tags.get(tag) ?? new Set([undefined]));
    if (entry.state !== 'there') entry.state = 'unsure';
    if (tag !== undefined && allowed !== undefined) {
      allowed.add(manifest.digest);
      ledger.tags.set(tag, allowed);
    }
    const path = `${base}/manifests/${tag ?? manifest.digest}`;
    const answer = await send('PUT', path, { headers: { 'content-type': manifest.mediaType }, body: manifest.bytes });
    if (!is(answer, 201, tag === undefined ? 'manifest push' : 'tagged push')) return;
    entry.state = 'there';
    if (tag !== undefined) ledger.tags.set(tag, new Set([manifest.digest]));
  }

  async function pushImage(): Promise<void> {
    const layers: Piece[] = [];
    const small = piece(randomBytes(200 + random.below(3_000)));
    if (await pushWhole(small)) layers.push(small);
    const old = random.pick([...ledger.blobs.values()].filter((entry) => entry.state === 'there'));
    if (old !== undefined && old.piece.digest !== small.digest) layers.push(old.piece);
    const config = piece(
      JSON.stringify({ architecture: 'amd64', os: 'linux', of: randomBytes(8).toString('hex') }),
      TYPES.config,
    );
    if (layers.length === 0 || !(await pushWhole(config))) return;
    await pushManifest(image({ config, layers }), random.chance(70) ? random.pick(TAGS) : undefined);
  }

  async function mount(): Promise<void> {
    const from = random.pick(parts.others);
    const source = random.pick([...(from?.blobs.values() ?? [])].filter((entry) => entry.state === 'there'));
    if (from === undefined || source === undefined) return;
    const entry = blobEntry(ledger, source.piece);
    const before = entry.state;
    if (before !== 'there') entry.state = 'unsure';
    const answer = await send('POST', `${base}/blobs/uploads/?mount=${source.piece.digest}&from=${from.name}`);
    // The other worker may just have deleted it: then this is the start of an upload.
    if (answer.status === 202) entry.state = before;
    else if (is(answer, 201, 'mount')) entry.state = 'there';
  }

  async function moveTag(): Promise<void> {
    const entry = random.pick([...ledger.manifests.values()].filter(({ state }) => state === 'there'));
    if (entry !== undefined) await pushManifest(entry.image, random.pick(TAGS));
  }

  async function deleteTag(): Promise<void> {
    const found = random.pick([...ledger.tags].filter(([, names]) => names.size === 1 && !names.has(undefined)));
    if (found === undefined) return;
    const [tag, names] = found;
    names.add(undefined);
    if (is(await send('DELETE', `${base}/manifests/${tag}`), 202, 'tag delete'))
      ledger.tags.set(tag, new Set([undefined]));
  }

  async function deleteManifest(): Promise<void> {
    const found = random.pick([...ledger.manifests].filter(([, { state }]) => state === 'there'));
    if (found === undefined) return;
    const [digest, entry] = found;
    entry.state = 'unsure';
    entry.fresh = true;
    const tagged = [...ledger.tags].filter(([, names]) => names.has(digest));
    for (const [, names] of tagged) names.add(undefined);
    if (!is(await send('DELETE', `${base}/manifests/${digest}`), 202, 'manifest delete')) return;
    entry.state = 'gone';
    for (const [, names] of tagged) names.delete(digest);
  }

  async function deleteBlob(large: boolean): Promise<void> {
    const needed = neededBlobs(ledger);
    const free = [...ledger.blobs.values()].filter(
      (entry) =>
        entry.state === 'there' && !needed.has(entry.piece.digest) && (!large || entry.piece.bytes.length >= LARGE),
    );
    const entry = random.pick(free);
    if (entry === undefined) return;
    entry.state = 'unsure';
    entry.fresh = true;
    if (is(await send('DELETE', `${base}/blobs/${entry.piece.digest}`), 202, 'blob delete')) entry.state = 'gone';
  }

  async function head(): Promise<void> {
    const entry = random.pick([...ledger.blobs.values()].filter(({ state }) => state === 'there'));
    if (entry !== undefined) is(await send('HEAD', `${base}/blobs/${entry.piece.digest}`), 200, 'head');
  }

  /** Pushes again what was deleted: the same digest has to come back whole. */
  async function pushAgain(): Promise<void> {
    const entry = random.pick([...ledger.blobs.values()].filter(({ state }) => state === 'gone'));
    if (entry !== undefined) await pushWhole(entry.piece);
  }

  const isLarge = (entry: { piece: Piece; state: string }): boolean =>
    entry.state !== 'gone' && entry.piece.bytes.length >= LARGE;

  try {
    while (parts.going()) {
      await parts.pace();
      const draw = random.below(100);
      const large = [...ledger.blobs.values()].filter(isLarge).length;
      const manifests = [...ledger.manifests.values()].filter(({ state }) => state !== 'gone').length;
      if (ledger.uploads.length > 0 && draw < 30) await resume();
      else if (large > MOST_LARGE && draw < 50) await (random.chance(50) ? deleteBlob(true) : deleteManifest());
      else if (manifests > MOST_MANIFESTS) await deleteManifest();
      else if (draw < 15 && large <= MOST_LARGE) await pushChunked();
      else if (draw < 22 && large <= MOST_LARGE) await pushWhole(piece(randomBytes(LARGE)));
      else if (draw < 34) await pushWhole(piece(randomBytes(100 + random.below(4_000))));
      else if (draw < 62) await pushImage();
      else if (draw < 72) await mount();
      else if (draw < 80) await moveTag();
      else if (draw < 84) await deleteTag();
      else if (draw < 88) await deleteManifest();
      else if (draw < 92) await deleteBlob(false);
      else if (draw < 96) await pushAgain();
      else await head();
    }
  } catch (error) {
    if (!(error instanceof ServerGone)) throw error;
  }
}
