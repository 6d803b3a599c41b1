/**
 * What a client does while something fails, written down as it is acknowledged: small images, a layer in chunks that
 * is gone on with where it broke, a tag that moves, deletes. Every answer is a success or an error that says what is
 * wrong and when to come again.
 */
import { type Answer, type Client, client, errorCodes } from '../../support/client.ts';
import { type Image, image, type Piece, randomPiece } from '../../support/images.ts';

/** How long an answer may take before it counts as none, milliseconds. */
const PATIENCE = 120_000;
const MIB = 1024 * 1024;

/** What is known of an image. `unsure`: its push or delete was answered with an error. */
interface Known {
  readonly image: Image;
  state: 'there' | 'gone' | 'unsure';
}

/** A client with its ledger. */
export interface Work {
  /** One of everything, in the same order each time. */
  round(): Promise<void>;
  /** Compares everything, or what changed since the last look, with the server. */
  verify(depth: 'changed' | 'all'): Promise<void>;
  /** Resolves when a small push succeeds; the answers before are errors as they have to be. */
  recovered(): Promise<void>;
  /** Deletes every image. */
  deleteAll(): Promise<void>;
  /** What was not as it has to be. */
  readonly wrong: string[];
  /** How many answers were errors. */
  readonly refused: () => number;
  readonly http: Client;
  /** Digests of images that are known to be there. */
  readonly there: () => Image[];
  close(): void;
}

/** Thrown where an answer was an error, after it was judged. */
class Refused extends Error {}

/** Whether an answer is an error as an outage has to be told: 503, when to come again, and a sentence. */
export function isOutage(answer: Answer): boolean {
  if (answer.status !== 503 || !(Number(answer.headers['retry-after']) >= 1)) return false;
  if (answer.body.length === 0) return true;
  const { errors } = JSON.parse(answer.body.toString()) as { errors?: { code?: string; message?: string }[] };
  return errors?.[0]?.code === 'UNAVAILABLE' && (errors[0].message ?? '').length > 20;
}

/** The work on one repository of a server. */
export function work(url: string, repository: string, layer = MIB): Work {
  const http = client(url);
  const base = `/v2/${repository}`;
  const wrong: string[] = [];
  const images = new Map<string, Known>();
  const changed = new Set<string>();
  let tag = new Set<string | undefined>([undefined]);
  let refusals = 0;

  async function send(
    method: string,
    path: string,
    ask: Parameters<Client['send']>[2],
    wanted: number,
  ): Promise<Answer> {
    const late = AbortSignal.timeout(PATIENCE);
    const answer = await Promise.race([
      http.send(method, path, ask),
      new Promise<never>((_, fail) => late.addEventListener('abort', () => fail(new Error(`${method} ${path} hangs`)))),
    ]);
    if (answer.status === wanted) return answer;
    refusals += 1;
    if (!isOutage(answer))
      wrong.push(`${method} ${path.slice(0, 120)}: ${answer.status} ${answer.body.toString().slice(0, 300)}`);
    throw new Refused(`${method} ${answer.status}`);
  }

  const locationOf = (answer: Answer): string => {
    const { pathname, search } = new URL(answer.headers.location ?? '', url);
    return pathname + search;
  };
  const octets = { 'content-type': 'application/octet-stream' };

  async function pushBlob(blob: Piece): Promise<void> {
    const started = await send('POST', `${base}/blobs/uploads/`, {}, 202);
    const path = `${locationOf(started)}${locationOf(started).includes('?') ? '&' : '?'}digest=${blob.digest}`;
    await send('PUT', path, { headers: octets, body: blob.bytes }, 201);
  }

  /** In chunks; an error is followed by asking where the upload stands and going on there. */
  async function pushChunked(blob: Piece): Promise<void> {
    let location = locationOf(await send('POST', `${base}/blobs/uploads/`, {}, 202));
    let at = 0;
    for (let tries = 0; at < blob.bytes.length; ) {
      const body = blob.bytes.subarray(at, at + Math.ceil(blob.bytes.length / 2));
      const range = { ...octets, 'content-range': `${at}-${at + body.length - 1}` };
      try {
        location = locationOf(await send('PATCH', location, { headers: range, body }, 202));
        at += body.length;
      } catch (error) {
        if (!(error instanceof Refused) || ++tries > 2) throw error;
        const status = await http.send('GET', location);
        if (status.status !== 204) {
          if (status.status !== 404 && !isOutage(status)) wrong.push(`upload status ${status.status} ${status.body}`);
          throw error;
        }
        const has = Number(/0-(\d+)$/.exec(String(status.headers.range ?? ''))?.[1] ?? -1) + 1;
        const stands = has === 1 ? 0 : has;
        if (stands < at) wrong.push(`an upload has ${stands} bytes, ${at} were acknowledged`);
        at = stands;
        location = locationOf(status);
      }
    }
    const close = `${location}${location.includes('?') ? '&' : '?'}digest=${blob.digest}`;
    try {
      await send('PUT', close, {}, 201);
    } catch (error) {
      // The upload is still there, or the disk lost its bytes and it says so.
      const again = await http.send('PUT', close);
      const lost = again.status === 404 && errorCodes(again).includes('BLOB_UPLOAD_UNKNOWN');
      if (again.status !== 201 && !lost && !isOutage(again))
        wrong.push(`a second close: ${again.status} ${again.body}`);
      if (again.status !== 201) throw error;
    }
  }

  async function pushManifest(pushed: Image, tagged: boolean): Promise<void> {
    const { digest, bytes, mediaType } = pushed.manifest;
    const known: Known = images.get(digest) ?? { image: pushed, state: 'unsure' };
    images.set(digest, known);
    changed.add(digest);
    if (known.state !== 'there') known.state = 'unsure';
    if (tagged) tag.add(digest);
    const path = `${base}/manifests/${tagged ? 'moving' : digest}`;
    await send('PUT', path, { headers: { 'content-type': mediaType }, body: bytes }, 201);
    known.state = 'there';
    if (tagged) tag = new Set([digest]);
  }

  async function deleteImage(digest: string, known: Known): Promise<void> {
    known.state = 'unsure';
    changed.add(digest);
    if (tag.has(digest)) tag.add(undefined);
    await send('DELETE', `${base}/manifests/${digest}`, {}, 202);
    known.state = 'gone';
    tag.delete(digest);
  }

  async function step(what: () => Promise<void>): Promise<void> {
    try {
      await what();
    } catch (error) {
      if (!(error instanceof Refused)) wrong.push(String(error));
    }
  }

  const ofState = (state: Known['state']): [string, Known][] =>
    [...images].filter(([, known]) => known.state === state);

  async function round(): Promise<void> {
    await step(async () => {
      const small = image({ layers: [randomPiece(2_000)] });
      for (const blob of small.blobs) await pushBlob(blob);
      await pushManifest(small, true);
    });
    await step(async () => {
      const large = image({ layers: [randomPiece(layer), randomPiece(layer / 4)] });
      for (const blob of large.blobs) await (blob.bytes.length === layer ? pushChunked(blob) : pushBlob(blob));
      await pushManifest(large, false);
    });
    await step(async () => {
      const oldest = ofState('there').find(([digest]) => !tag.has(digest));
      if (oldest !== undefined && ofState('there').length > 3) await deleteImage(...oldest);
    });
  }

  async function verifyImage(digest: string, known: Known): Promise<void> {
    const got = await http.hash(`${base}/manifests/${digest}`);
    if (got.status !== 200 && got.status !== 404) wrong.push(`manifest ${digest}: status ${got.status}`);
    if (known.state === 'there' && got.status === 404) wrong.push(`manifest ${digest} was acknowledged and is lost`);
    if (known.state === 'gone' && got.status === 200) wrong.push(`manifest ${digest} was deleted and is back`);
    known.state = got.status === 200 ? 'there' : 'gone';
    if (got.status !== 200) return;
    if (got.digest !== digest) wrong.push(`manifest ${digest} has digest ${got.digest}`);
    for (const blob of known.image.blobs) {
      const bytes = await http.hash(`${base}/blobs/${blob.digest}`);
      if (bytes.digest !== blob.digest)
        wrong.push(`blob ${blob.digest} of ${digest}: ${bytes.status}, ${bytes.size} bytes`);
    }
  }

  return {
    http,
    wrong,
    refused: () => refusals,
    there: () => ofState('there').map(([, known]) => known.image),
    round,
    async verify(depth) {
      for (const [digest, known] of images) {
        if (depth === 'changed' && !changed.has(digest)) continue;
        await verifyImage(digest, known);
        if (known.state === 'gone') images.delete(digest);
      }
      changed.clear();
      const got = await http.hash(`${base}/manifests/moving`);
      const names = got.status === 200 ? got.digest : undefined;
      if (!tag.has(names)) wrong.push(`the tag names ${names}, it may name ${[...tag].join(' or ')}`);
      tag = new Set([names]);
    },
    async recovered() {
      const began = performance.now();
      for (;;) {
        const before = refusals;
        await step(() => pushBlob(randomPiece(100)));
        if (refusals === before) return;
        if (performance.now() - began > PATIENCE) throw new Error('it does not recover');
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    async deleteAll() {
      for (const [digest, known] of ofState('there')) await step(() => deleteImage(digest, known));
    },
    close: () => http.close(),
  };
}
