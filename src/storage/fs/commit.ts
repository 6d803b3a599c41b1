/** Making an upload a blob: sync the file, link it under its key, sync the folder. Only then it is acknowledged. */
import path from 'node:path';
import { failpoint } from '../../kit/failpoint.ts';
import { FaultError } from '../../oci/error.ts';
import type { BlobKey, UploadId } from '../../oci/names.ts';
import { errno } from '../faults.ts';
import { checkSize } from '../names.ts';
import type { Appended, StoredBlob } from '../storage.ts';
import type { Place } from './place.ts';
import { statBlob } from './read.ts';
import { type Uploads, withUpload } from './upload.ts';

/** What `link` answers where the file system has no hard links. */
const NO_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EINVAL']);

/** The upload's first `at.size` bytes, durable under the key. The upload's file stays, except where links are not to be had. */
export async function commit(
  place: Place,
  uploads: Uploads,
  id: UploadId,
  at: Appended,
  key: BlobKey,
): Promise<StoredBlob> {
  const file = place.blobPath(key);
  const size = checkSize(at.size);
  uploads.checkIntact(id);
  try {
    const modifiedAt = await withUpload(place, id, size, async (fd, modified) => {
      failpoint('commit.sync.before');
      await uploads.sync(id, fd);
      failpoint('commit.sync.after');
      return modified;
    });
    failpoint('fs.link.before');
    const linked = await putUnderKey(place, place.uploadPath(id), file);
    failpoint('fs.link.after');
    const blob = linked ? { key, size, modifiedAt } : await existing(place, key, size);
    await place.settleFolder(path.dirname(file));
    await place.home.check();
    return blob;
  } catch (error) {
    // Without links the rename took the upload away; a try that failed after it goes on here.
    if (!(error instanceof FaultError) || errno(error.cause) !== 'ENOENT') throw error;
    const blob = await statBlob(place, key);
    if (blob?.size !== size) throw error;
    await place.settleFolder(path.dirname(file));
    await place.home.check();
    return blob;
  }
}

async function existing(place: Place, key: BlobKey, size: number): Promise<StoredBlob> {
  const blob = await statBlob(place, key);
  if (blob === undefined) throw new FaultError('unavailable', 'A blob vanished while it was stored. Push it again.');
  if (blob.size !== size) {
    throw new FaultError('corrupt', `A file of ${blob.size} bytes already stands where a blob of ${size} should be.`);
  }
  return blob;
}

/** Whether the key was free: false means that something stands there already. */
async function putUnderKey(place: Place, from: string, file: string): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    try {
      await place.operations.link(from, file);
      return true;
    } catch (error) {
      const code = errno(error);
      if (code === 'EEXIST') return false;
      if (attempt === 1 && (await place.home.isMissing(error))) await place.makeFolder(path.dirname(file));
      else if (NO_LINKS.has(code)) return moveUnderKey(place, from, file);
      else throw error;
    }
  }
}

async function moveUnderKey(place: Place, from: string, file: string): Promise<boolean> {
  try {
    await place.operations.stateOf(file);
    return false;
  } catch (error) {
    if (errno(error) !== 'ENOENT') throw error;
  }
  await place.makeFolder(path.dirname(file));
  await place.operations.rename(from, file);
  return true;
}
