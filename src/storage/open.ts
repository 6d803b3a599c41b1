/** Chooses the driver that the configuration names. A driver is loaded only when it is used. */
import type { Log, Metrics } from '../kit/log.ts';
import type { BlobStorage } from './storage.ts';

/** Where bytes are to lie. */
export interface StorageSettings {
  readonly driver: 'fs';
  /** The folder; made where it is missing. */
  readonly root: string;
  /** `full`: what is acknowledged survives a power cut. `relaxed`: only the end of the process. */
  readonly durability: 'full' | 'relaxed';
}

/** The storage, ready to use. FaultError where it cannot be reached or written to. */
export async function openStorage(
  settings: StorageSettings,
  parts: { readonly log?: Log; readonly metrics?: Metrics } = {},
): Promise<BlobStorage> {
  const { openFsStorage } = await import('./fs/fs.ts');
  return openFsStorage({ root: settings.root, durability: settings.durability, ...parts });
}
