/** Walking the blobs and uploads. Unordered, with bounded memory: a folder of millions is never read whole. */
import path from 'node:path';
import { parseBlobKey } from '../../oci/blob-key.ts';
import type { BlobKey, UploadId } from '../../oci/names.ts';
import { errno } from '../faults.ts';
import { checkShard, isUploadId } from '../names.ts';
import type { StoredBlob } from '../storage.ts';
import type { FolderEntry } from './operations.ts';
import type { Place } from './place.ts';
import { statBlob } from './read.ts';

const AT_ONCE = 16;

/** The entries of a folder; none where there is no folder. */
export async function* entriesOf(place: Place, folder: string): AsyncGenerator<FolderEntry> {
  try {
    yield* place.operations.entries(folder);
  } catch (error) {
    if (!(await place.home.isMissing(error)) && errno(error) !== 'ENOTDIR') throw error;
  }
}

/** Every blob, or those of one shard. Files that no key names are passed over. */
export async function* listBlobs(place: Place, shard: string | undefined): AsyncGenerator<StoredBlob> {
  const only = checkShard(shard);
  for (const algorithm of ['sha256', 'sha512'] as const) {
    const top = path.join(place.blobs, algorithm);
    if (only !== undefined) {
      yield* listShard(place, algorithm, only);
      continue;
    }
    for await (const { name, isFolder } of entriesOf(place, top)) {
      if (isFolder && /^[0-9a-f]{2}$/.test(name)) yield* listShard(place, algorithm, name);
    }
  }
}

async function* listShard(place: Place, algorithm: string, shard: string): AsyncGenerator<StoredBlob> {
  let keys: BlobKey[] = [];
  for await (const { name } of entriesOf(place, path.join(place.blobs, algorithm, shard))) {
    const parsed = parseBlobKey(`${algorithm}/${shard}/${name}`);
    if (parsed === undefined) continue;
    keys.push(parsed.key);
    if (keys.length < AT_ONCE) continue;
    yield* await stats(place, keys);
    keys = [];
  }
  yield* await stats(place, keys);
}

async function stats(place: Place, keys: readonly BlobKey[]): Promise<StoredBlob[]> {
  const blobs = await Promise.all(keys.map((key) => statBlob(place, key)));
  return blobs.filter((blob) => blob !== undefined);
}

/** Every upload that has a file. */
export async function* listUploads(place: Place): AsyncGenerator<UploadId> {
  for await (const { name, isFolder } of entriesOf(place, place.uploads)) {
    if (!isFolder && isUploadId(name)) yield name;
  }
}
