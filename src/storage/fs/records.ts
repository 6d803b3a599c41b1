/** Records as files under `records/`. A name may not also be the folder of another name. */
import path from 'node:path';
import { FaultError } from '../../oci/error.ts';
import { errno } from '../faults.ts';
import { checkRecordBytes, checkRecordPrefix, isRecordName, RECORD_BYTES } from '../names.ts';
import { entriesOf } from './list.ts';
import { FLAGS } from './operations.ts';
import type { Place } from './place.ts';

/** The bytes, or undefined where there is no such record. */
export async function getRecord(place: Place, name: string): Promise<Uint8Array | undefined> {
  const file = place.recordPath(name);
  try {
    return await place.withFile(file, FLAGS.read, async (fd) => {
      const { size, isFile } = await place.operations.state(fd);
      if (!isFile) return undefined;
      if (size > RECORD_BYTES) throw new FaultError('corrupt', 'A stored record is larger than 4 MiB.');
      const bytes = new Uint8Array(size);
      let at = 0;
      while (at < size) {
        const count = await place.operations.read(fd, bytes, at, size - at, at);
        if (count === 0) throw new FaultError('corrupt', 'A stored record ended early.');
        at += count;
      }
      return bytes;
    });
  } catch (error) {
    if ((await place.home.isMissing(error)) || errno(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** The whole record, durable. */
export async function putRecord(place: Place, name: string, bytes: Uint8Array): Promise<void> {
  await place.replaceFile(place.recordPath(name), checkRecordBytes(bytes));
}

/** Fine where there is none. */
export async function deleteRecord(place: Place, name: string): Promise<void> {
  const file = place.recordPath(name);
  try {
    await place.removeFile(file);
  } catch (error) {
    // A folder on the way is a file, or the name is a folder: no such record.
    if (errno(error) !== 'ENOTDIR' && errno(error) !== 'EISDIR') throw error;
  }
}

/** The names that begin with the prefix. */
export async function* listRecords(place: Place, prefix: string): AsyncGenerator<string> {
  const checked = checkRecordPrefix(prefix);
  const folders = [checked.slice(0, checked.lastIndexOf('/') + 1)];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for await (const { name, isFolder } of entriesOf(place, path.join(place.records, folder))) {
      const full = folder + name;
      if (!isRecordName(full)) continue;
      if (!isFolder && full.startsWith(checked)) yield full;
      if (isFolder && (full.startsWith(checked) || `${full}/`.startsWith(checked))) folders.push(`${full}/`);
    }
  }
}
