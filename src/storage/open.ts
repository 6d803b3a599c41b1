/** Chooses the driver that the configuration names. A driver is loaded only when it is used. */
import type { Log, Metrics } from '../kit/log.ts';
import type { StorageSettings } from './settings.ts';
import type { BlobStorage } from './storage.ts';

/** The storage, ready to use. FaultError where it cannot be reached or written to. */
export async function openStorage(
  settings: StorageSettings,
  parts: { readonly log?: Log; readonly metrics?: Metrics } = {},
): Promise<BlobStorage> {
  switch (settings.driver) {
    case 'fs': {
      const { openFsStorage } = await import('./fs/fs.ts');
      return openFsStorage({ root: settings.root, durability: settings.durability, ...parts });
    }
    case 's3': {
      const { openS3Storage } = await import('./s3/s3.ts');
      return openS3Storage(settings, parts);
    }
    case 'gcs': {
      const { openGcsStorage } = await import('./gcs/gcs.ts');
      return openGcsStorage(settings, parts);
    }
    case 'azure': {
      const { openAzureStorage } = await import('./azure/azure.ts');
      return openAzureStorage(settings, parts);
    }
  }
}
