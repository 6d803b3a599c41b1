/** For each operation of the REST API a request that succeeds for whoever may. A new route needs a line here. */
import { randomUUID } from 'node:crypto';
import {
  descriptor,
  digestOf,
  imageManifest,
  OCI_CONFIG,
  OCI_MANIFEST,
  pushBlob,
  putManifest,
} from '../support/oci.ts';
import { ask, type Place } from '../support/wire.ts';
import { api, as, at } from './support.ts';

/** A request: parameters of the path, and a body. */
export interface Sample {
  readonly params: Readonly<Record<string, string>>;
  readonly body?: object;
}

/** A repository of its own with one image under `v1`, pushed by the administrator; gives the image's digest. */
export async function freshRepository(place: Place, name: string, tag = 'v1'): Promise<string> {
  const headers = as('admin');
  const config = JSON.stringify({ made: randomUUID() });
  await pushBlob(place, name, config, headers);
  const manifest = JSON.stringify({
    ...(JSON.parse(imageManifest(config, [])) as object),
    config: descriptor(config, OCI_CONFIG),
  });
  const put = await putManifest(place, name, tag, manifest, OCI_MANIFEST, headers);
  if (put.status !== 201) throw new Error(`${put.status} ${put.text()}`);
  return digestOf(manifest);
}

async function remove(place: Place, name: string, reference: string): Promise<void> {
  const gone = await ask(place, 'DELETE', `/v2/${name}/manifests/${reference}`, { headers: as('admin') });
  if (gone.status !== 202) throw new Error(`${gone.status} ${gone.text()}`);
}

async function held(place: Place, name: string): Promise<string> {
  const made = await api(place, 'admin', 'POST', at(name, '/holds'), { body: { reason: 'kept' } });
  if (made.status !== 201) throw new Error(`${made.status} ${made.text()}`);
  return (made.json() as { id: string }).id;
}

/** Makes what the request needs in a repository of that name, which is new. */
export type Prepare = (place: Place, name: string) => Promise<Sample>;

const inRepository: Prepare = async (place, name) => {
  await freshRepository(place, name);
  return { params: { name } };
};
const onTag: Prepare = async (place, name) => {
  await freshRepository(place, name);
  return { params: { name, tag: 'v1' } };
};
const onDeletedTag: Prepare = async (place, name) => {
  await freshRepository(place, name);
  await remove(place, name, 'v1');
  return { params: { name, tag: 'v1' } };
};
const onDeletedManifest: Prepare = async (place, name) => {
  const digest = await freshRepository(place, name);
  await remove(place, name, digest);
  return { params: { name, digest } };
};
const onHold: Prepare = async (place, name) => {
  await freshRepository(place, name);
  return { params: { id: await held(place, name) } };
};
const nothing: Prepare = async () => ({ params: {} });

/** By operation. */
export const SAMPLES: Readonly<Record<string, Prepare>> = {
  getOpenapi: nothing,
  listRepositories: nothing,
  getRepository: inRepository,
  deleteRepository: inRepository,
  listTags: inRepository,
  getTagHistory: onTag,
  getRepositoryHistory: inRepository,
  rollBackTag: async (place, name) => {
    const to = await freshRepository(place, name);
    await freshRepository(place, name);
    return { params: { name, tag: 'v1' }, body: { to } };
  },
  listDeleted: inRepository,
  undeleteTag: onDeletedTag,
  undeleteManifest: onDeletedManifest,
  purgeTag: onDeletedTag,
  purgeManifest: onDeletedManifest,
  listAllHolds: nothing,
  listHolds: inRepository,
  addHold: async (place, name) => {
    await freshRepository(place, name);
    return { params: { name }, body: { reason: 'kept', tag: 'v1' } };
  },
  getHold: onHold,
  liftHold: onHold,
  getGcStatus: nothing,
  getScrubStatus: nothing,
  listDamagedBlobs: nothing,
  explainDigest: async () => ({ params: { digest: digestOf('anything') } }),
};
