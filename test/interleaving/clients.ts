/** What clients do in a run: one call of the store at a time, or a few that belong together as a push does. */
import { Readable } from 'node:stream';
import { RegistryError } from '../../src/oci/error.ts';
import type { RepositoryName, Tag } from '../../src/oci/names.ts';
import type { Call } from '../../src/registry/call.ts';
import type { Choices } from '../support/random.ts';
import type { About, Operation } from './ledger.ts';
import { type Blob, BY_DIGEST, MANIFESTS, type Manifest } from './universe.ts';
import type { Instance, World } from './world.ts';

const TAGS = ['v1', 'v2'] as Tag[];

/** Every client is the same person: who may do what is not the matter here. */
const CALL: Call = {
  principal: { kind: 'user', id: 'user:1', name: 'ann' },
  requestId: 'interleaving',
  signal: new AbortController().signal,
};

/** What clients need of the world that they are in. */
export interface ClientWorld
  extends Pick<
    World,
    | 'ledger'
    | 'ticks'
    | 'counts'
    | 'blobs'
    | 'manifests'
    | 'menu'
    | 'repository'
    | 'defect'
    | 'refused'
    | 'expectTag'
    | 'expectGone'
  > {
  readonly scheduler: { readonly tick: number };
  /** Sends one request of an upload to any of the processes that share the store. Absent: to the client's own. */
  readonly elsewhere?:
    | (<T>(from: Choices, own: Client['instance'], work: (instance: Client['instance']) => Promise<T>) => Promise<T>)
    | undefined;
}

/** A client's place: its choices, and where it sends its calls. */
export interface Client {
  readonly world: ClientWorld;
  readonly instance: Pick<Instance, 'process' | 'store'>;
  readonly choices: Choices;
}

const body = (bytes: Buffer): Readable => Readable.from([bytes], { objectMode: false });

/** Runs a call and says whether it went well. Refusals are part of a registry's life; failures are the program's defects. */
async function call<T>(
  { world, instance }: Client,
  kind: Operation['kind'],
  about: About,
  work: () => Promise<T>,
  good: (operation: Operation, sure: boolean, result: T) => void | Promise<void>,
): Promise<T | undefined> {
  const operation = world.ledger.begin(instance.process, kind, about, world.scheduler.tick);
  let result: T;
  try {
    result = await work();
  } catch (error) {
    world.ledger.end(operation);
    world.refused(error, about);
    return undefined;
  }
  const sure = world.ledger.end(operation);
  await good(operation, sure, result);
  return result;
}

function promised({ world }: Client): (operation: Operation, sure: boolean) => void {
  return (operation, sure) => {
    if (sure) world.ledger.promise(operation, operation.tick + Math.floor(world.ticks.grace / 2));
  };
}

/** HEAD. */
export async function head(client: Client, repository: RepositoryName, blob: Blob): Promise<boolean> {
  const about = { repository, what: `blob:${blob.digest}` };
  const work = () => client.instance.store(repository).resolveBlob(CALL, repository, blob.digest);
  return (await call(client, 'make', about, work, promised(client))) !== undefined;
}

/** A push of a blob: whole, in pieces through an upload, or a mount. */
export async function pushBlob(client: Client, repository: RepositoryName, blob: Blob): Promise<boolean> {
  const { choices, instance } = client;
  const store = instance.store(repository);
  const about = { repository, what: `blob:${blob.digest}` };
  if (choices.chance(25)) {
    const from = client.world.repository(choices);
    const mounted = await call(
      client,
      'make',
      about,
      () => store.mountBlob(CALL, repository, blob.digest, from),
      (operation, sure, result) => {
        if (result !== undefined) promised(client)(operation, sure);
      },
    );
    if (mounted !== undefined) return true;
  }
  if (choices.chance(50)) {
    const expected = { digest: blob.digest, size: blob.bytes.length };
    const work = () => store.pushBlob(CALL, repository, expected, body(blob.bytes));
    return (await call(client, 'make', about, work, promised(client))) !== undefined;
  }
  if (client.world.elsewhere !== undefined) {
    const work = () => pushAnywhere(client, repository, blob);
    const pushed = await call(client, 'make', about, work, (operation, sure, result) => {
      if (result !== undefined) promised(client)(operation, sure);
    });
    return pushed !== undefined;
  }
  const work = async () => {
    const { id } = await store.startUpload(CALL, repository);
    const middle = choices.below(blob.bytes.length + 1);
    if (choices.chance(70)) {
      await store.appendUpload(CALL, repository, id, { body: body(blob.bytes.subarray(0, middle)), length: middle });
      if (choices.chance(10)) return undefined;
      if (choices.chance(8)) return void (await store.cancelUpload(CALL, repository, id));
      const { size } = await store.uploadStatus(CALL, repository, id);
      const rest = blob.bytes.subarray(size);
      return store.commitUpload(CALL, repository, id, blob.digest, {
        body: body(rest),
        offset: size,
        length: rest.length,
      });
    }
    return store.commitUpload(CALL, repository, id, blob.digest, { body: body(blob.bytes) });
  };
  const pushed = await call(client, 'make', about, work, (operation, sure, result) => {
    if (result !== undefined) promised(client)(operation, sure);
  });
  return pushed !== undefined;
}

/** How often a client goes on after a request without an answer. */
const ATTEMPTS = 4;

/** An upload of which any process may get any request, and of which the client goes on where one was not answered. */
async function pushAnywhere(client: Client, repository: RepositoryName, blob: Blob): Promise<unknown> {
  const { world, choices, instance } = client;
  const at = <T>(work: (store: ReturnType<typeof instance.store>) => Promise<T>): Promise<T> =>
    world.elsewhere === undefined
      ? work(instance.store(repository))
      : world.elsewhere(choices, instance, (chosen) => work(chosen.store(repository)));
  const { id } = await at((store) => store.startUpload(CALL, repository));
  const middle = choices.below(blob.bytes.length + 1);
  const chunk = (from: number, to: number) => ({
    body: body(blob.bytes.subarray(from, to)),
    offset: from,
    length: to - from,
  });
  const end = blob.bytes.length;
  let acknowledged = 0;
  /** Whether a request that was given up may begin the upload anew. */
  let doubled = false;
  const stands = async (): Promise<number> => {
    const { size } = await at((store) => store.uploadStatus(CALL, repository, id));
    // It ended meanwhile, by its lifetime or by a request of which the answer was lost: it begins again.
    if (size === 0) doubled = true;
    else if (size < acknowledged && !doubled)
      world.defect(`I1: an upload has ${size} bytes, ${acknowledged} were acknowledged`);
    acknowledged = size;
    return size;
  };
  for (let attempt = 1; ; attempt++) {
    try {
      if (attempt === 1) {
        if (choices.chance(20))
          return await at((store) =>
            store.commitUpload(CALL, repository, id, blob.digest, chunk(0, blob.bytes.length)),
          );
        acknowledged = (await at((store) => store.appendUpload(CALL, repository, id, chunk(0, middle)))).size;
        if (choices.chance(8)) return undefined;
        if (choices.chance(6)) return void (await at((store) => store.cancelUpload(CALL, repository, id)));
      }
      const size = await stands();
      // Somebody who gave up waiting: what was sent may still be written while the next request comes.
      if (choices.chance(25)) {
        const sent = chunk(size, size + choices.below(end - size + 1));
        void at((store) => store.appendUpload(CALL, repository, id, sent)).catch(() => undefined);
      }
      if (choices.chance(60))
        return await at((store) => store.commitUpload(CALL, repository, id, blob.digest, chunk(size, end)));
      acknowledged = (await at((store) => store.appendUpload(CALL, repository, id, chunk(size, end)))).size;
      const last = await stands();
      return await at((store) => store.commitUpload(CALL, repository, id, blob.digest, chunk(last, end)));
    } catch (error) {
      const again = error instanceof RegistryError && /^(UNAVAILABLE|RANGE_INVALID)$/.test(error.code);
      if (!again || attempt === ATTEMPTS) throw error;
    }
  }
}

/** PUT of a manifest. */
export async function pushManifest(
  client: Client,
  repository: RepositoryName,
  manifest: Manifest,
  tag: Tag | undefined,
): Promise<void> {
  const { world, instance } = client;
  const about = { repository, what: `manifest:${manifest.digest}` };
  const tagged =
    tag === undefined
      ? undefined
      : world.ledger.begin(instance.process, 'make', { repository, what: `tag:${tag}` }, world.scheduler.tick);
  await call(
    client,
    'make',
    about,
    () =>
      instance
        .store(repository)
        .pushManifest(CALL, repository, manifest.bytes, manifest.mediaType, tag === undefined ? {} : { tags: [tag] }),
    async (operation, sure) => {
      world.counts.pushes++;
      if (sure) world.ledger.know(operation, true);
      const tagSure = tagged !== undefined && world.ledger.end(tagged);
      if (sure && tagSure && tag !== undefined) await world.expectTag(repository, tag, manifest.digest);
    },
  );
  if (tagged !== undefined) world.ledger.end(tagged);
}

/** A whole push: HEAD each blob, push what is missing, then the manifest. */
export async function push(client: Client, repository: RepositoryName, manifest: Manifest): Promise<void> {
  for (const child of manifest.children) await push(client, repository, child);
  for (const blob of manifest.blobs) {
    if (client.choices.chance(60) && (await head(client, repository, blob))) continue;
    if (!(await pushBlob(client, repository, blob))) return;
  }
  await pushManifest(client, repository, manifest, client.choices.chance(60) ? client.choices.pick(TAGS) : undefined);
}

/** GET of a blob; what was found can be read until its key may be deleted. */
export async function pull(client: Client, repository: RepositoryName, blob: Blob): Promise<void> {
  const { world, instance } = client;
  try {
    const content = await instance.store(repository).getBlob(CALL, repository, blob.digest);
    const found = world.scheduler.tick;
    world.counts.pulls++;
    if (content.openRandom === undefined) {
      if (!blob.bytes.equals(content.bytes ?? Buffer.alloc(0))) world.defect('a pull gave other bytes');
      return;
    }
    const reader = await content.openRandom();
    const into = Buffer.alloc(blob.bytes.length);
    await reader.read(into, 0);
    await reader.close();
    if (!into.equals(blob.bytes)) world.defect(`a pull that began at tick ${found} gave other bytes`);
  } catch (error) {
    world.refused(error, { repository, what: `blob:${blob.digest}` });
  }
}

async function deleteManifest(client: Client, repository: RepositoryName, manifest: Manifest): Promise<void> {
  const { world, instance } = client;
  const about = { repository, what: `manifest:${manifest.digest}` };
  await call(
    client,
    'take',
    about,
    () => instance.store(repository).deleteManifest(CALL, repository, manifest.digest),
    async (operation, sure) => {
      world.counts.deletes++;
      if (!sure) return;
      world.ledger.know(operation, false);
      await world.expectGone(repository, { digest: manifest.digest });
    },
  );
}

/** One thing that a client does. */
export async function act(client: Client): Promise<void> {
  const { world, instance, choices } = client;
  // More often than not something that is there, so that much happens.
  const known = choices.chance(65) ? choices.pick(world.ledger.known()) : undefined;
  const repository = (known?.repository as RepositoryName | undefined) ?? world.repository(choices);
  const store = instance.store(repository);
  const manifest =
    BY_DIGEST.get(known?.what.slice('manifest:'.length) ?? '') ?? (choices.pick(world.manifests) as Manifest);
  const blob = choices.pick(world.blobs) as Blob;
  const tag = choices.pick(TAGS) as Tag;
  const restored = { repository, what: `manifest:${manifest.digest}` };
  const all = { repository, what: '*' };
  const nothing = (): void => undefined;
  switch (choices.pick(world.menu)) {
    case 'push':
      return push(client, repository, manifest);
    case 'blob':
      return void (await pushBlob(client, repository, blob));
    case 'head': {
      // What a client does that saw it there: a manifest that names it, within half a grace or later.
      if (await head(client, repository, blob)) {
        const naming = MANIFESTS.find(({ blobs }) => blobs.includes(blob));
        if (naming !== undefined && choices.chance(50)) await pushManifest(client, repository, naming, undefined);
      }
      return;
    }
    case 'manifest':
      return pushManifest(client, repository, manifest, choices.chance(50) ? tag : undefined);
    case 'pull':
      return pull(client, repository, blob);
    case 'unlink':
      return void (await call(
        client,
        'take',
        { repository, what: `blob:${blob.digest}` },
        () => store.deleteBlob(CALL, repository, blob.digest),
        nothing,
      ));
    case 'delete':
      return deleteManifest(client, repository, manifest);
    case 'untag':
      return void (await call(
        client,
        'take',
        { repository, what: `tag:${tag}` },
        () => store.deleteTag(CALL, repository, tag),
        (_operation, sure) => (sure ? world.expectGone(repository, { tag }) : undefined),
      ));
    case 'restore':
      return void (await call(
        client,
        'make',
        restored,
        () => store.restore(CALL, repository, { digest: manifest.digest }),
        (operation, sure) => {
          world.counts.restores++;
          if (sure) world.ledger.know(operation, true);
        },
      ));
    case 'retag':
      return void (await call(client, 'make', all, () => store.restore(CALL, repository, { tag }), nothing));
    case 'rollback': {
      const back = { tag, digest: manifest.digest };
      return void (await call(client, 'make', all, () => store.restore(CALL, repository, back), nothing));
    }
    case 'purge':
      return void (await call(
        client,
        'take',
        restored,
        () => store.purge(CALL, repository, choices.chance(50) ? { tag } : { digest: manifest.digest }),
        nothing,
      ));
    case 'remove':
      return void (await call(
        client,
        'take',
        all,
        async () => {
          while (!(await store.deleteRepository(CALL, repository)).done);
        },
        nothing,
      ));
    default:
      throw new RegistryError('UNKNOWN', 'the menu names what no client does');
  }
}
