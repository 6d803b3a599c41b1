/** What this machine can do at all, measured beside the rows: a sequential synced write, one SHA-256 stream, syncs. */
import { createHash } from 'node:crypto';
import { closeSync, fdatasyncSync, fsyncSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Values } from './types.ts';

const MiB = 1024 * 1024;

/** `megabytes`: how much is written and hashed. */
export function measureLimits(folder: string, megabytes: number): Values {
  const file = join(folder, 'limits.bin');
  const block = Buffer.alloc(MiB, 'longshore');
  const seconds = (from: number): number => (performance.now() - from) / 1000;
  const handle = openSync(file, 'w');
  try {
    const writing = performance.now();
    for (let index = 0; index < megabytes; index++) writeSync(handle, block);
    fsyncSync(handle);
    const write = megabytes / seconds(writing);

    let syncs = 0;
    const syncing = performance.now();
    while (seconds(syncing) < 0.3) {
      writeSync(handle, block, 0, 4096, 4096 * (syncs++ % 256));
      fdatasyncSync(handle);
    }
    const perSecond = syncs / seconds(syncing);

    const hash = createHash('sha256');
    const hashing = performance.now();
    for (let index = 0; index < megabytes; index++) hash.update(block);
    hash.digest();
    return { write, syncs: perSecond, sha256: megabytes / seconds(hashing) };
  } finally {
    closeSync(handle);
    rmSync(file, { force: true });
  }
}

/** The kind of file system, by the numbers of statfs(2). */
export function fileSystemOf(folder: string): string {
  const known: Readonly<Record<number, string>> = {
    61267: 'ext4',
    1481003842: 'XFS',
    2435016766: 'Btrfs',
    16914836: 'tmpfs (syncs cost nothing there: push rows mean little)',
    2035054128: 'overlayfs',
    801189825: 'ZFS',
  };
  const { type } = statfsSync(folder);
  return known[type] ?? `0x${type.toString(16)}`;
}
