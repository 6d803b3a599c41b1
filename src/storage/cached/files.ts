/**
 * The files of the blob cache: which there are, which was used longest ago, and that they are never more than they may
 * be. Nothing here is synced: what a power cut leaves is checked by its digest before it is served again.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { randomId } from '../../kit/id.ts';
import { parseBlobKey } from '../../oci/blob-key.ts';
import { algorithmOf } from '../../oci/digest.ts';
import type { BlobKey } from '../../oci/names.ts';

/** A temporary file that is older than this belongs to nobody any more. Milliseconds. */
const ABANDONED = 3_600_000;
/** Most files, whatever their size: what the index costs in memory. */
const MOST_FILES = 500_000;

/** A file of the cache. */
export interface CachedFile {
  readonly size: number;
  /** Whether this process has seen all its bytes hash to the digest. */
  verified: boolean;
}

/** A hash of the key's algorithm, and what it has to come to. */
export function hashOf(key: BlobKey): { update(bytes: Uint8Array): void; matches(): boolean } {
  const { digest } = parseBlobKey(key)!;
  const hash = createHash(algorithmOf(digest));
  return {
    update: (bytes) => void hash.update(bytes),
    matches: () => `${algorithmOf(digest)}:${hash.digest('hex')}` === digest,
  };
}

/** The files under one folder. */
export class CacheFiles {
  readonly #folder: string;
  readonly #most: number;
  /** Least recently used first. */
  readonly #files = new Map<BlobKey, CachedFile>();
  #bytes = 0;

  private constructor(folder: string, most: number) {
    this.#folder = folder;
    this.#most = most;
  }

  /** Looks what is there, oldest first, and removes what is too much or left over. `now`: wall milliseconds. */
  static async open(folder: string, most: number, now: number): Promise<CacheFiles> {
    const files = new CacheFiles(folder, most);
    await mkdir(join(folder, 'tmp'), { recursive: true, mode: 0o700 });
    const found: { key: BlobKey; size: number; usedAt: number }[] = [];
    for (const name of await readdir(folder)) {
      for (const entry of await readdir(join(folder, name)).catch(() => [] as string[])) {
        const path = join(folder, name, entry);
        const state = await stat(path).catch(() => undefined);
        if (state === undefined) continue;
        const key = name === 'tmp' ? undefined : parseBlobKey(entry.replaceAll('-', '/'))?.key;
        if (key !== undefined && state.isFile()) found.push({ key, size: state.size, usedAt: state.mtimeMs });
        else if (now - state.mtimeMs > ABANDONED) await rm(path, { force: true });
      }
    }
    found.sort((a, b) => a.usedAt - b.usedAt);
    for (const { key, size } of found) files.#enter(key, { size, verified: false });
    await files.#evict();
    return files;
  }

  /** Bytes of all files. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The largest file that is taken: one that leaves room for others. */
  get largest(): number {
    return Math.floor(this.#most / 2);
  }

  /** The file of a key, opened, which is now the one used last; undefined where there is none of that size. */
  async take(key: BlobKey): Promise<{ readonly file: CachedFile; readonly handle: FileHandle } | undefined> {
    const file = this.#files.get(key);
    if (file === undefined) return undefined;
    this.#files.delete(key);
    this.#files.set(key, file);
    let handle: FileHandle | undefined;
    try {
      handle = await open(this.#path(key), 'r');
      if ((await handle.stat()).size === file.size) return { file, handle };
    } catch {
      // Somebody has emptied the folder: a cache may lose anything.
    }
    await handle?.close();
    await this.drop(key);
    return undefined;
  }

  /** A new temporary file to write and read. */
  async begin(): Promise<{ readonly path: string; readonly handle: FileHandle }> {
    const path = join(this.#folder, 'tmp', Buffer.from(randomId(16)).toString('hex'));
    return { path, handle: await open(path, 'wx+', 0o600) };
  }

  /** Removes a temporary file; fine where there is none. */
  async discard(path: string): Promise<void> {
    await rm(path, { force: true }).catch(() => undefined);
  }

  /** Makes a temporary file, whose bytes were checked, the file of a key. */
  async keep(key: BlobKey, path: string, size: number): Promise<void> {
    const target = this.#path(key);
    await mkdir(join(target, '..'), { recursive: true, mode: 0o700 });
    await rename(path, target);
    this.#leave(key);
    this.#enter(key, { size, verified: true });
    await this.#evict();
  }

  /** Forgets and removes a key's file; fine where there is none. */
  async drop(key: BlobKey): Promise<void> {
    if (this.#leave(key)) await rm(this.#path(key), { force: true });
  }

  #path(key: BlobKey): string {
    const [algorithm, fan, name] = key.split('/');
    return join(this.#folder, fan!, `${algorithm}-${fan}-${name}`);
  }

  #enter(key: BlobKey, file: CachedFile): void {
    this.#files.set(key, file);
    this.#bytes += file.size;
  }

  #leave(key: BlobKey): boolean {
    const file = this.#files.get(key);
    if (file === undefined) return false;
    this.#bytes -= file.size;
    return this.#files.delete(key);
  }

  async #evict(): Promise<void> {
    for (const key of this.#files.keys()) {
      if (this.#bytes <= this.#most && this.#files.size <= MOST_FILES) return;
      await this.drop(key);
    }
  }
}
