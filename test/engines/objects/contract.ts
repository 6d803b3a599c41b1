/** What the tests of the seam's contract over object stores share. */
import { after } from 'node:test';
import { openStorage } from '../../../src/storage/open.ts';
import type { StorageSettings } from '../../../src/storage/settings.ts';
import type { BlobStorage } from '../../../src/storage/storage.ts';

/** Something that is started when the first test asks for it, and ends after the last. */
export function lazily<T extends { stop(): Promise<void> }>(start: () => Promise<T>): () => Promise<T> {
  let started: Promise<T> | undefined;
  after(async () => (await started)?.stop());
  return () => {
    started ??= start();
    return started;
  };
}

let prefixes = 0;

/** Another one each time: every test has a prefix of its own. */
export const prefix = (): string => `t${++prefixes}/`;

/** The storage. */
export const open = (settings: StorageSettings): Promise<BlobStorage> => openStorage(settings, {});
