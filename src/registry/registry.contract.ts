/**
 * The one suite that every place where images live passes: memory, local, upstream. `open` gives an empty one each
 * time, with no sparse repositories. The parts by theme are the other `*.contract.ts` of this folder.
 */
import { describe } from 'node:test';
import { blobContract } from './blobs.contract.ts';
import { deleteContract } from './deletes.contract.ts';
import type { OpenForTest } from './fresh.testing.ts';
import { guardContract } from './guards.contract.ts';
import { listContract } from './lists.contract.ts';
import { manifestContract } from './manifests.contract.ts';
import { uploadContract } from './uploads.contract.ts';

/** Registers the whole suite under `name`. */
export function registryContract(name: string, open: OpenForTest): void {
  describe(`${name} keeps the contract of the seam`, () => {
    blobContract(open);
    uploadContract(open);
    manifestContract(open);
    guardContract(open);
    deleteContract(open);
    listContract(open);
  });
}
