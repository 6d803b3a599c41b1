/**
 * One client of the soak. It does what real clients do, HEAD before a push and no push after a 200 above all, chosen by
 * its seed, and knows of everything that it asks for whether it has to be there, has to be gone, or may be either.
 */
import type { Client } from '../support/client.ts';
import { type Image, type Piece, TYPES } from '../support/images.ts';
import type { Choices } from '../support/random.ts';
import { artifact, type Catalogue, ownImage, ownIndex } from './catalogue.ts';
import { requests, type Timed } from './http.ts';
import { acknowledge, blobMustBe, bury, deletable, isNeeded, type ManifestFact, type Place, present } from './model.ts';

/** What a worker works with. */
export interface WorkerParts {
  readonly name: string;
  /** One client for each instance. */
  readonly clients: readonly Client[];
  readonly random: Choices;
  readonly catalogue: Catalogue;
  /** Repositories of its own; it works in them by turns, so that the others become quiet. */
  readonly own: readonly Place[];
  /** What it knows of the repository that all share. */
  readonly shared: Place;
  /** Repositories of others, to mount from. */
  readonly others: () => readonly Place[];
  /** How long an acknowledgement holds, milliseconds: half a grace. */
  readonly holds: number;
  readonly going: () => boolean;
  /** Waits a little where the machine is not to be kept busy for nothing. */
  readonly pace: () => Promise<void>;
  readonly count: (what: string) => void;
  /** Something is wrong; `digest`: about which the tables are asked. */
  readonly wrong: (what: string, digest?: string) => void;
}

const OCTETS = { 'content-type': 'application/octet-stream' };
const CHUNK = 400_000;
const MOST_MANIFESTS = 9;
const TAGS = 6;
/** How long a worker stays in one of its repositories, milliseconds: longer than a grace. */
const TURN = 35_000;

/** A worker. */
export interface Worker {
  /** Works until told to stop. */
  work(): Promise<void>;
  /** Everything it knows, asked for once more. */
  verify(): Promise<void>;
}

/** A worker of the soak. */
export function soakWorker(parts: WorkerParts): Worker {
  const { random, count, holds, catalogue, clients } = parts;
  const http = requests(clients, random, count);
  let made = 0;

  const wrong = (what: string, digest?: string): void =>
    parts.wrong(`${parts.name}: ${what}\n    ${http.recent()}`, digest);

  /** Whether the status is the wanted one; another is wrong. */
  function is(answer: Timed, wanted: number, what: string, digest?: string): boolean {
    if (answer.status === wanted) {
      count(what);
      return true;
    }
    wrong(`${what}: ${answer.status} instead of ${wanted}: ${answer.body.toString().slice(0, 300)}`, digest);
    return false;
  }

  const blobPath = (at: Place, digest: string): string => `/v2/${at.name}/blobs/${digest}`;
  const manifestPath = (at: Place, reference: string): string => `/v2/${at.name}/manifests/${reference}`;

  /** HEAD, held against what is known. True: it is there, and stays for a while. */
  async function hasBlob(at: Place, piece: Piece): Promise<boolean> {
    const before = blobMustBe(at, piece.digest);
    const answer = await http.send('HEAD', blobPath(at, piece.digest));
    const must = before === 'gone' ? before : blobMustBe(at, piece.digest);
    if (answer.status !== 200 && answer.status !== 404) {
      wrong(`HEAD of ${piece.digest} in ${at.name}: ${answer.status}`, piece.digest);
      return false;
    }
    if (must === 'there' && answer.status === 404) wrong(`I1: ${piece.digest} is lost in ${at.name}`, piece.digest);
    if (must === 'gone' && answer.status === 200)
      wrong(`I7: ${piece.digest} was deleted in ${at.name} and is there`, piece.digest);
    if (answer.status === 404) return false;
    count(must === 'either' ? 'head of what may go' : 'head');
    if (Number(answer.headers['content-length']) !== piece.bytes.length)
      wrong(`a wrong length in HEAD of ${piece.digest}`);
    acknowledge(at, piece, answer.sent, holds);
    return true;
  }

  async function mount(at: Place, piece: Piece, from: Place): Promise<boolean | Timed> {
    const must = from.others === true ? false : isNeeded(from, piece.digest);
    const answer = await http.send('POST', `/v2/${at.name}/blobs/uploads/?mount=${piece.digest}&from=${from.name}`);
    if (answer.status === 201) {
      count('mount');
      acknowledge(at, piece, answer.sent, holds);
      return true;
    }
    if (answer.status !== 202) return is(answer, 201, 'mount', piece.digest);
    if (must)
      wrong(`a mount of ${piece.digest} from ${from.name}, where a manifest names it, was not done`, piece.digest);
    return answer;
  }

  /** The bytes, in one of the ways there are. `started`: the answer to a POST. */
  async function upload(at: Place, piece: Piece, started?: Timed): Promise<boolean> {
    const uploads = `/v2/${at.name}/blobs/uploads/`;
    if (started === undefined && random.chance(25)) {
      const answer = await http.send('POST', `${uploads}?digest=${piece.digest}`, {
        headers: OCTETS,
        body: piece.bytes,
      });
      if (!is(answer, 201, 'push in one', piece.digest)) return false;
      acknowledge(at, piece, answer.sent, holds);
      return true;
    }
    let answer = started ?? (await http.send('POST', uploads));
    if (!is(answer, 202, 'upload', piece.digest)) return false;
    let rest: Uint8Array | undefined = piece.bytes;
    if (piece.bytes.length > CHUNK || random.chance(15)) {
      const chunk = Math.min(CHUNK, Math.ceil(piece.bytes.length / 2));
      for (let from = 0; from < piece.bytes.length; from += chunk) {
        const body = piece.bytes.subarray(from, from + chunk);
        const headers = { ...OCTETS, 'content-range': `${from}-${from + body.length - 1}` };
        answer = await http.send('PATCH', http.location(answer), { headers, body });
        if (!is(answer, 202, 'chunk', piece.digest)) return false;
      }
      rest = undefined;
    }
    const put = http.location(answer, piece.digest);
    answer = await http.send('PUT', put, { headers: OCTETS, ...(rest === undefined ? {} : { body: rest }) });
    if (!is(answer, 201, rest === undefined ? 'push in chunks' : 'push', piece.digest)) return false;
    acknowledge(at, piece, answer.sent, holds);
    return true;
  }

  /** As a client pushes a blob: not where a HEAD says that it is there; mounted where that can be. */
  async function pushBlob(at: Place, piece: Piece): Promise<boolean> {
    if (random.chance(85) && (await hasBlob(at, piece))) return true;
    if (random.chance(30)) {
      const others = parts.others().map((one): Place => ({ ...one, others: true }));
      const from = random.pick([...parts.own.filter((one) => one !== at), parts.shared, ...others]);
      if (from !== undefined && from.name !== at.name) {
        const done = await mount(at, piece, from);
        return typeof done === 'boolean' ? done : upload(at, piece, done);
      }
    }
    return upload(at, piece);
  }

  /** The manifest; what it names was acknowledged. */
  async function pushManifest(at: Place, fact: Omit<ManifestFact, 'there'>, tag?: string): Promise<boolean> {
    const { manifest, blobs } = fact;
    // A machine that is too slow may let a promise end; a client would get its refusal and push again.
    for (const blob of blobs) {
      if (blobMustBe(at, blob.digest) === 'there') continue;
      count('renewed');
      if (!(await pushBlob(at, blob))) return false;
    }
    const answer = await http.send('PUT', manifestPath(at, tag ?? manifest.digest), {
      headers: { 'content-type': manifest.mediaType },
      body: manifest.bytes,
    });
    if (answer.status !== 201 && blobs.some((blob) => blobMustBe(at, blob.digest) !== 'there')) {
      count('too late');
      return false;
    }
    if (!is(answer, 201, 'manifest push', blobs[0]?.digest)) return false;
    at.manifests.set(manifest.digest, { ...fact, there: true });
    if (tag !== undefined) at.tags.set(tag, manifest.digest);
    return true;
  }

  const someTag = (at: Place): string => `${at.shared ? `${parts.name}-` : ''}v${random.below(TAGS)}`;

  async function pushImage(at: Place): Promise<void> {
    const image = at.shared || random.chance(45) ? imageOfItsOwn() : random.pick(catalogue.images)!;
    for (const blob of image.blobs) if (!(await pushBlob(at, blob))) return;
    await pushManifest(at, { ...image, children: [] }, random.chance(75) ? someTag(at) : undefined);
  }

  function imageOfItsOwn(): Image {
    const layers = Array.from({ length: 1 + random.below(4) }, () => random.pick(catalogue.layers)!);
    // Few notes: what was pushed and deleted comes again.
    return ownImage([...new Set(layers)], `${parts.name} ${made++ % 25}`);
  }

  async function pushIndex(at: Place): Promise<void> {
    const children = present(at)
      .filter(({ manifest }) => manifest.mediaType === TYPES.manifest)
      .slice(0, 1 + random.below(3))
      .map(({ manifest }) => manifest);
    if (children.length === 0) return;
    const manifest = ownIndex(children, parts.name);
    const fact = { manifest, blobs: [], children: children.map(({ digest }) => digest) };
    if (await pushManifest(at, fact, random.chance(50) ? someTag(at) : undefined)) count('index');
  }

  async function pushReferrer(at: Place): Promise<void> {
    const subject = random.pick(present(at));
    if (subject === undefined) return;
    const own = artifact(subject.manifest, random.pick(catalogue.layers)!, `${parts.name} ${made++ % 10}`);
    for (const blob of own.blobs) if (!(await pushBlob(at, blob))) return;
    const fact = { ...own, children: [], subject: subject.manifest.digest };
    if (await pushManifest(at, fact)) await referrers(at, subject.manifest.digest);
  }

  /** What is there and refers to it is listed, and what was deleted is not. */
  async function referrers(at: Place, subject: string): Promise<void> {
    const answer = await http.send('GET', `/v2/${at.name}/referrers/${subject}`);
    if (!is(answer, 200, 'referrers')) return;
    const { manifests } = JSON.parse(answer.body.toString()) as { manifests: { digest: string }[] };
    const listed = new Set(manifests.map(({ digest }) => digest));
    for (const fact of at.manifests.values()) {
      if (fact.subject !== subject || listed.has(fact.manifest.digest) === fact.there) continue;
      wrong(
        `the referrer ${fact.manifest.digest} of ${subject} is ${fact.there ? 'not listed' : 'listed though deleted'}`,
      );
    }
  }

  /** A manifest by its digest or a tag, and all that it names. */
  async function pull(at: Place): Promise<void> {
    const tag = random.chance(60) ? random.pick([...at.tags]) : undefined;
    const fact = tag === undefined ? random.pick(present(at)) : at.manifests.get(tag[1]);
    if (fact !== undefined) await pullManifest(at, fact, tag?.[0] ?? fact.manifest.digest);
  }

  async function pullManifest(at: Place, fact: ManifestFact, reference: string, whole = true): Promise<void> {
    const { digest } = fact.manifest;
    const got = await http.get(manifestPath(at, reference));
    if (!is(got, 200, 'manifest pull', digest)) return;
    if (got.digest !== digest) wrong(`I1: ${at.name}:${reference} gave ${got.digest} instead of ${digest}`, digest);
    if (!whole) return;
    for (const blob of fact.blobs) {
      const bytes = await http.get(blobPath(at, blob.digest));
      if (!is(bytes, 200, 'blob pull', blob.digest)) continue;
      if (bytes.digest !== blob.digest) wrong(`I1: the bytes of ${blob.digest} hash to ${bytes.digest}`, blob.digest);
    }
    for (const child of fact.children) {
      const manifest = at.manifests.get(child);
      if (manifest !== undefined) await pullManifest(at, manifest, child);
    }
    if (random.chance(15)) await referrers(at, digest);
  }

  async function moveTag(at: Place): Promise<void> {
    const fact = random.pick(present(at));
    if (fact !== undefined && (await pushManifest(at, fact, someTag(at)))) count('tag move');
  }

  /** I7: no instance answers 200 after an acknowledged deletion. */
  async function isGone(path: string, digest: string): Promise<void> {
    for (const each of clients) {
      const answer = await http.send('GET', path, { headers: { accept: '*/*' } }, each);
      if (answer.status !== 404) wrong(`I7: ${path} answers ${answer.status} after its deletion`, digest);
    }
  }

  async function deleteTag(at: Place): Promise<void> {
    const tag = random.pick([...at.tags]);
    if (tag === undefined) return;
    at.tags.delete(tag[0]);
    if (!is(await http.send('DELETE', manifestPath(at, tag[0])), 202, 'tag delete')) return;
    await isGone(manifestPath(at, tag[0]), tag[1]);
    if (random.chance(30)) await pullManifest(at, at.manifests.get(tag[1])!, tag[1], false);
  }

  async function deleteManifest(at: Place): Promise<void> {
    const fact = random.pick(deletable(at));
    if (fact === undefined) return;
    const { digest } = fact.manifest;
    const answer = await http.send('DELETE', manifestPath(at, digest));
    if (!is(answer, 202, 'manifest delete', digest)) return;
    const tags = bury(at, fact);
    await isGone(manifestPath(at, digest), digest);
    for (const tag of tags) await isGone(manifestPath(at, tag), digest);
    if (fact.subject !== undefined) await referrers(at, fact.subject);
  }

  async function deleteBlob(at: Place): Promise<void> {
    const fact = random.pick([...at.blobs.values()].filter((one) => !one.deleted && !isNeeded(at, one.piece.digest)));
    if (fact === undefined || at.shared) return;
    const { digest } = fact.piece;
    const answer = await http.send('DELETE', blobPath(at, digest));
    if (answer.status === 404 && blobMustBe(at, digest) === 'either') {
      fact.deleted = true;
      return;
    }
    if (!is(answer, 202, 'blob delete', digest)) return;
    fact.deleted = true;
    await isGone(blobPath(at, digest), digest);
    // The same digest again, while what it was is being taken away.
    if (random.chance(50)) await pushBlob(at, fact.piece);
  }

  /** An upload that nobody goes on with. */
  async function abandon(at: Place): Promise<void> {
    const piece = random.pick(catalogue.layers)!;
    const started = await http.send('POST', `/v2/${at.name}/blobs/uploads/`);
    if (!is(started, 202, 'upload')) return;
    const body = piece.bytes.subarray(0, Math.ceil(piece.bytes.length / 2));
    const headers = { ...OCTETS, 'content-range': `0-${body.length - 1}` };
    if (is(await http.send('PATCH', http.location(started), { headers, body }), 202, 'chunk')) count('abandoned');
  }

  async function one(at: Place): Promise<void> {
    const draw = random.below(100);
    if (present(at).length > MOST_MANIFESTS && draw < 60) await deleteManifest(at);
    else if (draw < 34) await pushImage(at);
    else if (draw < 54) await pull(at);
    else if (draw < 62) await moveTag(at);
    else if (draw < 67) await deleteTag(at);
    else if (draw < 79) await deleteManifest(at);
    else if (draw < 88) await deleteBlob(at);
    else if (draw < 92) await pushIndex(at);
    else if (draw < 96) await pushReferrer(at);
    else if (draw < 98) await pushBlob(at, random.pick(catalogue.layers)!);
    else await abandon(at);
  }

  return {
    async work() {
      const began = performance.now();
      while (parts.going()) {
        const turn = Math.floor((performance.now() - began) / TURN) % parts.own.length;
        const at = random.chance(35) ? parts.shared : parts.own[turn]!;
        try {
          await one(at);
        } catch (error) {
          if (!parts.going()) return;
          wrong(`a request broke off: ${error instanceof Error ? error.stack : error}`);
          await new Promise((done) => setTimeout(done, 200));
        }
        await parts.pace();
      }
    },
    async verify() {
      for (const at of [...parts.own, parts.shared]) {
        for (const fact of at.manifests.values()) {
          if (fact.there) await pullManifest(at, fact, fact.manifest.digest);
          else await isGone(manifestPath(at, fact.manifest.digest), fact.manifest.digest);
        }
        for (const [tag, digest] of at.tags) await pullManifest(at, at.manifests.get(digest)!, tag, false);
        for (const fact of at.blobs.values())
          if (fact.deleted) await isGone(blobPath(at, fact.piece.digest), fact.piece.digest);
      }
    },
  };
}
