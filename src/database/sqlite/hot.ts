/**
 * The look-ups of the request loop, on its own read-only connection and synchronous: each is one prepared statement
 * over indexes, some ten microseconds. Nothing else may be read here.
 */
import { digestToBytes } from '../../oci/digest.ts';
import type { Hot } from '../database.ts';
import {
  BLOB_BY_LINK,
  type BlobRow,
  blobOf,
  MANIFEST_BY_DIGEST,
  MANIFEST_BY_TAG,
  type ManifestRow,
  manifestOf,
  UPLOAD_BY_ID,
  type UploadRow,
  uploadOf,
} from '../hot.ts';
import { Connection } from './connection.ts';
import { sqliteFault } from './faults.ts';

/** The look-ups, and the little more that is asked of their connection. */
export interface SqliteHot {
  readonly hot: Hot;
  /** Differs after any commit by another connection. */
  dataVersion(): number;
  /** Reads one row; throws FaultError where the file cannot be read. */
  check(): void;
  /** The names of all repositories. */
  repositories(): string[];
  close(): void;
}

const CACHE_KIB = 4096;

/** Opens the connection and prepares the four statements. Throws FaultError. */
export function openHot(path: string): SqliteHot {
  const connection = new Connection({ path, readOnly: true, durability: 'full', cacheKib: CACHE_KIB });
  const byTag = connection.prepare(MANIFEST_BY_TAG);
  const byDigest = connection.prepare(MANIFEST_BY_DIGEST);
  const byLink = connection.prepare(BLOB_BY_LINK);
  const byId = connection.prepare(UPLOAD_BY_ID);
  const version = connection.prepare('pragma data_version');
  const tick = connection.prepare('select tick from gc_clock where id = 1');

  // An async function, so that what SQLite throws becomes a rejection; the work itself is done at once.
  const guarded = <Row, Result>(read: () => unknown, made: (row: Row | undefined) => Result): Result => {
    let row: Row | undefined;
    try {
      row = read() as Row | undefined;
    } catch (error) {
      throw sqliteFault(error);
    }
    return made(row);
  };

  return {
    hot: {
      manifestByTag: async (repository, tag) =>
        guarded<ManifestRow, ReturnType<typeof manifestOf>>(() => byTag.get(tag, repository), manifestOf),
      manifestByDigest: async (repository, digest) =>
        guarded<ManifestRow, ReturnType<typeof manifestOf>>(
          () => byDigest.get(digestToBytes(digest), repository),
          manifestOf,
        ),
      blobByLink: async (repository, digest) =>
        guarded<BlobRow, ReturnType<typeof blobOf>>(() => byLink.get(digestToBytes(digest), repository), blobOf),
      uploadById: async (id) => guarded<UploadRow, ReturnType<typeof uploadOf>>(() => byId.get(id), uploadOf),
    },
    dataVersion: () => (version.get() as { data_version: number }).data_version,
    check: () =>
      guarded(
        () => tick.get(),
        () => {},
      ),
    repositories: () =>
      connection.all<{ name: string }>('select name from repository where gone = 0', []).map(({ name }) => name),
    close: () => connection.close(),
  };
}
