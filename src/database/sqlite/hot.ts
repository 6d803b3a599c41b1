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
import { checkMain, type Present } from './present.ts';

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

function openStatements(path: string) {
  const connection = new Connection({ path, readOnly: true, durability: 'full', cacheKib: CACHE_KIB });
  try {
    return {
      connection,
      byTag: connection.prepare(MANIFEST_BY_TAG),
      byDigest: connection.prepare(MANIFEST_BY_DIGEST),
      byLink: connection.prepare(BLOB_BY_LINK),
      byId: connection.prepare(UPLOAD_BY_ID),
      version: connection.prepare('pragma data_version'),
      tick: connection.prepare('select tick from gc_clock where id = 1'),
    };
  } catch (error) {
    connection.close();
    throw sqliteFault(error);
  }
}

/**
 * Opens the connection and prepares the statements. Throws FaultError. After an error of the disk the next look-up
 * opens it anew, where the file is still the one of `present`.
 */
export function openHot(path: string, present?: Present): SqliteHot {
  let on = openStatements(path);
  let broken = false;

  function reopen(): void {
    if (present !== undefined) checkMain(path, present);
    const again = openStatements(path);
    on.connection.close();
    on = again;
    broken = false;
  }

  // An async function, so that what SQLite throws becomes a rejection; the work itself is done at once.
  const guarded = <Row, Result>(read: () => unknown, made: (row: Row | undefined) => Result): Result => {
    let row: Row | undefined;
    try {
      if (broken) reopen();
      row = read() as Row | undefined;
    } catch (error) {
      const fault = sqliteFault(error);
      broken = fault.status === 503 || fault.code === 'corrupt';
      throw fault;
    }
    return made(row);
  };

  return {
    hot: {
      manifestByTag: async (repository, tag) =>
        guarded<ManifestRow, ReturnType<typeof manifestOf>>(() => on.byTag.get(tag, repository), manifestOf),
      manifestByDigest: async (repository, digest) =>
        guarded<ManifestRow, ReturnType<typeof manifestOf>>(
          () => on.byDigest.get(digestToBytes(digest), repository),
          manifestOf,
        ),
      blobByLink: async (repository, digest) =>
        guarded<BlobRow, ReturnType<typeof blobOf>>(() => on.byLink.get(digestToBytes(digest), repository), blobOf),
      uploadById: async (id) => guarded<UploadRow, ReturnType<typeof uploadOf>>(() => on.byId.get(id), uploadOf),
    },
    dataVersion: () => (on.version.get() as { data_version: number }).data_version,
    check: () =>
      guarded(
        () => on.tick.get(),
        () => {},
      ),
    repositories: () =>
      on.connection.all<{ name: string }>('select name from repository where gone = 0', []).map(({ name }) => name),
    close: () => on.connection.close(),
  };
}
