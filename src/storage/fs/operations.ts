/**
 * The calls of the file system that this driver makes, and no others: one seam on which tests record the order and
 * let each call fail. Descriptors are plain numbers: whoever opens closes.
 */
import fs from 'node:fs';
import { promisify } from 'node:util';

/** What of a file's state is looked at. */
export interface FileState {
  readonly size: number;
  readonly modifiedAt: number;
  readonly isFile: boolean;
  /** Which file it is, together: the number of the file system and of the file in it. */
  readonly device: number;
  readonly inode: number;
  /** Under how many names it stands. */
  readonly links: number;
}

/** Bytes of a file system: what this user may still fill, and all. */
export interface Space {
  readonly free: number;
  readonly total: number;
}

/** One entry of a folder. */
export interface FolderEntry {
  readonly name: string;
  readonly isFolder: boolean;
}

/** Every call rejects with the system's error. */
export interface Operations {
  open(path: string, flags: number, mode?: number): Promise<number>;
  close(fd: number): Promise<void>;
  /** How many bytes were read, 0 at the end. */
  read(fd: number, into: Uint8Array, offset: number, length: number, position: number): Promise<number>;
  /** How many bytes were written; may be fewer than asked. */
  write(fd: number, from: Uint8Array, offset: number, length: number, position: number): Promise<number>;
  truncate(fd: number, size: number): Promise<void>;
  /** fdatasync. */
  syncData(fd: number): Promise<void>;
  /** fsync, for folders. */
  sync(fd: number): Promise<void>;
  state(fd: number): Promise<FileState>;
  stateOf(path: string): Promise<FileState>;
  /** How full the file system of the path is. */
  space(path: string): Promise<Space>;
  link(from: string, to: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  mkdir(path: string, mode: number): Promise<void>;
  entries(path: string): AsyncIterable<FolderEntry>;
}

const open = promisify(fs.open);
const close = promisify(fs.close);
const fstat = promisify(fs.fstat);
const stat = promisify(fs.stat);
const mkdir = promisify(fs.mkdir);

function stateFrom(stats: fs.Stats): FileState {
  return {
    size: stats.size,
    modifiedAt: Math.floor(stats.mtimeMs),
    isFile: stats.isFile(),
    device: stats.dev,
    inode: stats.ino,
    links: stats.nlink,
  };
}

/** The real ones. */
export const systemOperations: Operations = {
  open: (path, flags, mode) => open(path, flags, mode),
  close: (fd) => close(fd),
  read: (fd, into, offset, length, position) =>
    new Promise((resolve, reject) => {
      fs.read(fd, into, offset, length, position, (error, count) => (error === null ? resolve(count) : reject(error)));
    }),
  write: (fd, from, offset, length, position) =>
    new Promise((resolve, reject) => {
      fs.write(fd, from, offset, length, position, (error, count) => (error === null ? resolve(count) : reject(error)));
    }),
  truncate: promisify(fs.ftruncate),
  syncData: promisify(fs.fdatasync),
  sync: promisify(fs.fsync),
  state: async (fd) => stateFrom(await fstat(fd)),
  stateOf: async (path) => stateFrom(await stat(path)),
  space: async (path) => {
    const { bavail, blocks, bsize } = await fs.promises.statfs(path);
    return { free: bavail * bsize, total: blocks * bsize };
  },
  link: promisify(fs.link),
  rename: promisify(fs.rename),
  unlink: promisify(fs.unlink),
  mkdir: async (path, mode) => void (await mkdir(path, { mode })),
  entries: async function* (path) {
    // Leaving the loop early closes the folder.
    for await (const entry of await fs.promises.opendir(path, { bufferSize: 256 })) {
      yield { name: entry.name, isFolder: entry.isDirectory() };
    }
  },
};

/** Flags of `open`, by purpose. */
export const FLAGS = {
  read: fs.constants.O_RDONLY,
  write: fs.constants.O_RDWR,
  /** A new file; fails where there is one. */
  create: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL,
  /** An empty file, whether there was one or not. */
  empty: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_TRUNC,
  folder: fs.constants.O_RDONLY | fs.constants.O_DIRECTORY,
} as const;
