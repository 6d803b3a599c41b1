/** Reading the files that a configuration names, for rooms that do not touch the file system themselves. */
import { readFile, stat } from 'node:fs/promises';

/** A text that differs after every change of the file (inode, size, times); undefined: not there. */
export async function fileStamp(path: string): Promise<string | undefined> {
  try {
    const { ino, size, mtimeMs, ctimeMs } = await stat(path);
    return `${ino}:${size}:${mtimeMs}:${ctimeMs}`;
  } catch {
    return undefined;
  }
}

/** The whole file; undefined where it is not there, is no file, or is larger than `limit` bytes. */
export async function fileBytes(path: string, limit: number): Promise<Uint8Array | undefined> {
  try {
    const facts = await stat(path);
    if (!facts.isFile() || facts.size > limit) return undefined;
    const bytes = await readFile(path);
    return bytes.length > limit ? undefined : bytes;
  } catch {
    return undefined;
  }
}
