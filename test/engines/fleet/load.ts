/**
 * Clients that push, pull and delete through a balancer while instances die, each trying again as real clients do, and
 * the ledger of what was acknowledged to them. Each pusher has a repository of its own, so that it knows what is there.
 */
import { createHash, randomBytes } from 'node:crypto';
import { get } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Answer, Client } from '../../support/client.ts';
import { type Image, image, type Piece, piece, TYPES } from '../../support/images.ts';
import type { Choices } from '../../support/random.ts';

/** What one pusher knows of its repository. */
export interface Ledger {
  readonly name: string;
  /** Acknowledged and not deleted. */
  readonly there: Map<string, Image>;
  /** Deleted, and acknowledged. */
  readonly gone: Map<string, Image>;
  readonly tags: Map<string, string>;
}

/** What the clients share. */
export interface Load {
  readonly http: Client;
  readonly random: Choices;
  readonly ledgers: readonly Ledger[];
  readonly going: () => boolean;
  readonly counts: Map<string, number>;
  /** Whatever must not be. */
  readonly wrong: string[];
}

/** How often a client tries one thing, and how long it waits between, milliseconds. */
const TRIES = 24;
const PAUSE = 250;
/** For how long at least a blob stays that no manifest names yet, milliseconds: half of the 20 s of grace, less a tick. */
const HOLDS = 9_000;
const CHUNK = 700_001;
const OCTETS = { 'content-type': 'application/octet-stream' };
const DIRECT = { 'user-agent': 'direct' };
const SIZES = [300, 20_000, 60_000, 1_500_000];
const MOST_IMAGES = 25;

/** The beginning of the User-Agent of clients that are served by the instances themselves. */
export const DIRECT_AGENT = DIRECT['user-agent'];

/** A ledger without anything. */
export function newLedger(name: string): Ledger {
  return { name, there: new Map(), gone: new Map(), tags: new Map() };
}

/** The failure of one try: the next may succeed. */
class TryAgain extends Error {}

function count({ counts }: Load, what: string): void {
  counts.set(what, (counts.get(what) ?? 0) + 1);
}

/** Runs one thing until it succeeds; notes what was tried in vain, and gives undefined, when the tries are used up. */
async function persistently<T>(load: Load, what: string, work: () => Promise<T>): Promise<T | undefined> {
  let last = '';
  for (let tries = 0; tries < TRIES; tries++) {
    try {
      const result = await work();
      count(load, what);
      return result;
    } catch (error) {
      last = error instanceof Error ? error.message : String(error);
      count(load, 'tried again');
      await sleep(PAUSE);
    }
  }
  load.wrong.push(`${what}: tried ${TRIES} times in vain, at last: ${last}`);
  return undefined;
}

/** Tells an answer that a later try may better from one that is wrong. */
function expect(load: Load, answer: Answer, wanted: number, what: string, passing: readonly number[] = []): void {
  if (answer.status === wanted) return;
  const told = `${what}: ${answer.status} ${answer.body.toString().slice(0, 300)}`;
  if (![502, 503, ...passing].includes(answer.status)) load.wrong.push(told);
  throw new TryAgain(told);
}

async function pushBlob(load: Load, name: string, blob: Piece): Promise<void> {
  const { http, random } = load;
  const { digest, bytes } = blob;
  const head = await http.send('HEAD', `/v2/${name}/blobs/${digest}`);
  if (head.status === 200) return;
  expect(load, head, 404, 'HEAD blob');
  const pathOf = (answer: Answer): string => {
    const at = new URL(answer.headers.location ?? '', http.url);
    return at.pathname + at.search;
  };
  const begun = await http.send('POST', `/v2/${name}/blobs/uploads/`);
  expect(load, begun, 202, 'POST');
  let path = pathOf(begun);
  const chunked = bytes.length > CHUNK || random.chance(20);
  for (let at = 0; chunked && at < bytes.length; ) {
    const body = bytes.subarray(at, at + CHUNK);
    const headers = { ...OCTETS, 'content-range': `${at}-${at + body.length - 1}` };
    try {
      const answer = await http.send('PATCH', path, { headers, body });
      expect(load, answer, 202, 'PATCH', [416]);
      path = pathOf(answer);
      at += body.length;
    } catch {
      // Asks where it stands, as a client that resumes does.
      await sleep(PAUSE);
      const status = await http.send('GET', path);
      expect(load, status, 204, 'upload status');
      const end = Number(/-(\d+)$/.exec(status.headers.range ?? '')?.[1] ?? 0);
      const stands = end === 0 ? 0 : end + 1;
      if (stands < at || stands > at + body.length) {
        load.wrong.push(`an upload stands at ${stands}, ${at} were acknowledged, ${at + body.length} sent`);
        throw new TryAgain('the upload lost bytes');
      }
      count(load, 'resumed');
      at = stands;
    }
  }
  const end = `${path}${path.includes('?') ? '&' : '?'}digest=${digest}`;
  const put = await http.send('PUT', end, { headers: OCTETS, ...(chunked ? {} : { body: bytes }) });
  // A finished upload is unknown: its answer was lost, and the next try finds the blob.
  expect(load, put, 201, 'PUT', [404, 416]);
}

async function pushImage(load: Load, ledger: Ledger): Promise<void> {
  const { http, random, ledgers } = load;
  const layers = [piece(randomBytes(random.pick(SIZES)! + random.below(1000)))];
  const old = random.pick([...ledger.there.values(), ...ledger.gone.values()])?.blobs.at(-1);
  if (old !== undefined && random.chance(50)) layers.push(old);
  const other = random.pick(ledgers)!;
  const foreign = random.pick([...other.there.values()])?.blobs.at(-1);
  const mounted = foreign !== undefined && other !== ledger && random.chance(40) ? foreign : undefined;
  if (mounted !== undefined && !layers.some(({ digest }) => digest === mounted.digest)) layers.push(mounted);
  const config = piece(JSON.stringify({ os: 'linux', of: randomBytes(8).toString('hex') }), TYPES.config);
  const made = image({ config, layers });
  const tag = `t${random.below(6)}`;
  const done = await persistently(load, 'push', async () => {
    const began = performance.now();
    for (const blob of made.blobs) {
      if (blob === mounted) {
        const answer = await http.mountBlob(ledger.name, blob.digest, other.name);
        if (answer.status === 201) continue;
        // Deleted and collected over there meanwhile: it is pushed.
        expect(load, answer, 202, 'mount');
      }
      await pushBlob(load, ledger.name, blob);
    }
    const answer = await http.pushManifest(ledger.name, made.manifest, tag);
    // Who took longer than what was acknowledged stays is told so, and pushes again.
    expect(load, answer, 201, 'PUT manifest', performance.now() - began > HOLDS ? [404] : []);
    return true;
  });
  // Nothing is sure of one that was not acknowledged; its blobs are nobody's and go.
  if (done !== true) return;
  ledger.there.set(made.manifest.digest, made);
  ledger.tags.set(tag, made.manifest.digest);
}

async function deleteImage(load: Load, ledger: Ledger): Promise<void> {
  const [digest, made] = load.random.pick([...ledger.there]) ?? [];
  if (digest === undefined || made === undefined) return;
  // From here on a puller must not ask for it any more: the answer may be either.
  ledger.there.delete(digest);
  const done = await persistently(load, 'delete', async () => {
    const answer = await load.http.send('DELETE', `/v2/${ledger.name}/manifests/${digest}`);
    if (answer.status !== 404) expect(load, answer, 202, 'DELETE');
    return true;
  });
  if (done !== true) return;
  ledger.gone.set(digest, made);
  for (const [tag, at] of ledger.tags) if (at === digest) ledger.tags.delete(tag);
}

/** Pushes, and sometimes deletes, until the load ends. */
export async function pusher(load: Load, ledger: Ledger): Promise<void> {
  while (load.going()) {
    if (ledger.there.size > MOST_IMAGES || (ledger.there.size > 3 && load.random.chance(20)))
      await deleteImage(load, ledger);
    else await pushImage(load, ledger);
  }
}

/** A blob's bytes through whatever the registry answers with: they come, or an address for them. */
export async function fetchBlob(http: Client, name: string, digest: string, direct: boolean): Promise<string> {
  const answer = await http.send('GET', `/v2/${name}/blobs/${digest}`, { headers: direct ? DIRECT : {} });
  if (answer.status === 200)
    return `200 sha256:${createHash('sha256').update(answer.body).digest('hex')} ${answer.body.length}`;
  if (answer.status !== 307) return `${answer.status}`;
  return new Promise((done, fail) => {
    const asked = get(String(answer.headers.location), (reply) => {
      const sum = createHash('sha256');
      let size = 0;
      reply.on('data', (chunk: Buffer) => {
        sum.update(chunk);
        size += chunk.length;
      });
      reply.on('error', fail);
      reply.on('end', () => done(`${reply.statusCode} sha256:${sum.digest('hex')} ${size}`));
    });
    asked.on('error', fail);
  });
}

/** What is wrong with one image when it is pulled whole; throws where the connection breaks. */
async function pullImage(http: Client, name: string, made: Image, direct: boolean): Promise<string | undefined> {
  const got = await http.hash(`/v2/${name}/manifests/${made.manifest.digest}`);
  if (got.status !== 200 || got.digest !== made.manifest.digest) return `manifest ${got.status} ${got.digest}`;
  for (const { digest, bytes } of made.blobs) {
    const blob = await fetchBlob(http, name, digest, direct);
    if (blob !== `200 ${digest} ${bytes.length}`) return `blob ${digest} of ${bytes.length} bytes: ${blob}`;
  }
  return undefined;
}

/** Pulls what was acknowledged until the load ends. */
export async function puller(load: Load): Promise<void> {
  const { random } = load;
  while (load.going()) {
    const ledger = random.pick(load.ledgers)!;
    const made = random.pick([...ledger.there.values()]);
    if (made === undefined) {
      await sleep(PAUSE);
      continue;
    }
    await persistently(load, 'pull', async () => {
      const told = await pullImage(load.http, ledger.name, made, random.chance(50));
      if (told === undefined || !ledger.there.has(made.manifest.digest)) return;
      if (!/ (502|503) /.test(`${told} `)) load.wrong.push(`pull of ${ledger.name}: ${told}`);
      throw new TryAgain(told);
    });
  }
}

/** Compares a quiet instance with the ledgers: what was acknowledged is there to the byte, what was deleted is not. */
export async function verify(ledgers: readonly Ledger[], http: Client): Promise<string[]> {
  const wrong: string[] = [];
  for (const { name, there, gone, tags } of ledgers) {
    for (const made of there.values()) {
      const told = await pullImage(http, name, made, true);
      if (told !== undefined) wrong.push(`${http.url} ${name}: ${told}`);
    }
    for (const digest of gone.keys()) {
      const { status } = await http.send('HEAD', `/v2/${name}/manifests/${digest}`);
      if (status !== 404) wrong.push(`${http.url} ${name}@${digest}: deleted, and answers ${status}`);
    }
    for (const [tag, digest] of tags) {
      const got = await http.hash(`/v2/${name}/manifests/${tag}`);
      if (got.digest !== digest) wrong.push(`${http.url} ${name}:${tag}: ${got.status} ${got.digest}, not ${digest}`);
    }
  }
  return wrong;
}
