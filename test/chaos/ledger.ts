/**
 * What was acknowledged, kept beside the server and compared with it after each restart. An operation under way when
 * the process died leaves its object unsure: either outcome is right, and the one that is seen then has to stay.
 */
import type { Client } from '../support/client.ts';
import { digestOf, type Image, type Piece } from '../support/images.ts';
import type { Choices } from '../support/random.ts';

/** What is known of an object. */
export type Presence = 'there' | 'gone' | 'unsure';

/** A blob in a repository. */
export interface BlobEntry {
  readonly piece: Piece;
  state: Presence;
  /** Whether something was done to it since the last look. */
  fresh: boolean;
}

/** A manifest in a repository. */
export interface ManifestEntry {
  readonly image: Image;
  state: Presence;
  fresh: boolean;
}

/** An upload that was cut off. */
export interface CutUpload {
  readonly location: string;
  readonly piece: Piece;
  /** Bytes of which the server said that it has them. */
  readonly acknowledged: number;
  /** Bytes that were sent at all. */
  readonly sent: number;
}

/** One repository; only one worker changes it. */
export interface RepositoryLedger {
  readonly name: string;
  readonly blobs: Map<string, BlobEntry>;
  readonly manifests: Map<string, ManifestEntry>;
  /** The digests that a tag may name; undefined: that there is no such tag. */
  readonly tags: Map<string, Set<string | undefined>>;
  readonly uploads: CutUpload[];
}

/** An empty one. */
export function repositoryLedger(name: string): RepositoryLedger {
  return { name, blobs: new Map(), manifests: new Map(), tags: new Map(), uploads: [] };
}

/** The digests of blobs that a manifest which may be there needs. */
export function neededBlobs(ledger: RepositoryLedger): Set<string> {
  const needed = new Set<string>();
  for (const { image, state } of ledger.manifests.values()) {
    if (state !== 'gone') for (const blob of image.blobs) needed.add(blob.digest);
  }
  return needed;
}

/** How much is looked at: what is fresh or unsure and a sample of the rest; every blob that is there too; or all bytes. */
export type Depth = 'fresh' | 'heads' | 'all';

/** In how many of 100 cases something is looked at again to which nothing was done. */
const SAMPLE = 8;

/** What a status says, or a complaint. */
function settle(state: Presence, status: number, what: string, wrong: string[]): Presence {
  if (status !== 200 && status !== 404) wrong.push(`${what}: status ${status}`);
  else if (state === 'there' && status === 404) wrong.push(`${what}: was acknowledged and is lost`);
  else if (state === 'gone' && status === 200) wrong.push(`${what}: its delete was acknowledged and it is back`);
  return status === 200 ? 'there' : 'gone';
}

/**
 * Compares a repository with the server and settles what was unsure. Gives what is wrong. Rejects where the server
 * dies meanwhile; call it again then.
 */
export async function verify(ledger: RepositoryLedger, http: Client, random: Choices, depth: Depth): Promise<string[]> {
  const wrong: string[] = [];
  const base = `/v2/${ledger.name}`;
  const isDue = (entry: { state: Presence; fresh: boolean }): boolean =>
    depth === 'all' || entry.fresh || entry.state === 'unsure' || random.chance(SAMPLE);
  for (const [digest, entry] of ledger.manifests) {
    if (!isDue(entry)) continue;
    const what = `manifest ${ledger.name}@${digest}`;
    const got = await http.hash(`${base}/manifests/${digest}`);
    entry.state = settle(entry.state, got.status, what, wrong);
    entry.fresh = false;
    if (got.status !== 200) continue;
    if (got.digest !== digest) wrong.push(`${what}: its bytes have digest ${got.digest}`);
    for (const blob of entry.image.blobs) {
      const needed = ledger.blobs.get(blob.digest);
      if (needed === undefined || needed.state === 'gone')
        wrong.push(`${what}: is there without its blob ${blob.digest}`);
    }
  }
  for (const [tag, allowed] of ledger.tags) {
    const what = `tag ${ledger.name}:${tag}`;
    const got = await http.hash(`${base}/manifests/${tag}`);
    if (got.status !== 200 && got.status !== 404) wrong.push(`${what}: status ${got.status}`);
    const names = got.status === 200 ? got.digest : undefined;
    if (!allowed.has(names)) wrong.push(`${what}: names ${names}, it may name ${[...allowed].join(' or ')}`);
    if (names !== undefined && ledger.manifests.get(names)?.state === 'gone')
      wrong.push(`${what}: names ${names}, which is deleted`);
    allowed.clear();
    allowed.add(names);
  }
  for (const [digest, entry] of ledger.blobs) {
    const what = `blob ${ledger.name}@${digest}`;
    const read = isDue(entry);
    if (!read && !(depth === 'heads' && entry.state === 'there')) continue;
    const head = await http.send('HEAD', `${base}/blobs/${digest}`);
    entry.state = settle(entry.state, head.status, what, wrong);
    if (head.status !== 200) {
      entry.fresh = false;
      continue;
    }
    if (Number(head.headers['content-length']) !== entry.piece.bytes.length)
      wrong.push(`${what}: wrong length in HEAD`);
    if (!read) continue;
    const got = await http.hash(`${base}/blobs/${digest}`);
    if (got.status !== 200 || got.digest !== digest)
      wrong.push(`${what}: GET ${got.status}, ${got.size} bytes of ${got.digest}`);
    entry.fresh = false;
  }
  return wrong;
}

/** A blob's entry, made where there is none; something is about to be done to it. */
export function blobEntry(ledger: RepositoryLedger, piece: Piece): BlobEntry {
  const entry = ledger.blobs.get(piece.digest) ?? { piece, state: 'gone' as Presence, fresh: true };
  entry.fresh = true;
  ledger.blobs.set(piece.digest, entry);
  return entry;
}

/** A manifest's entry, made where there is none; something is about to be done to it. */
export function manifestEntry(ledger: RepositoryLedger, image: Image): ManifestEntry {
  const digest = digestOf(image.manifest.bytes);
  const entry = ledger.manifests.get(digest) ?? { image, state: 'gone' as Presence, fresh: true };
  entry.fresh = true;
  ledger.manifests.set(digest, entry);
  return entry;
}
