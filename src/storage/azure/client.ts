/** The container's client and what may sign for it, from the settings. */
import {
  AnonymousCredential,
  BlobServiceClient,
  type ContainerClient,
  type StoragePipelineOptions,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { FaultError } from '../../oci/error.ts';
import type { AzureSettings } from '../settings.ts';

/** The container, and the account's key where it is known. */
export interface AzureContainer {
  readonly service: BlobServiceClient;
  readonly container: ContainerClient;
  readonly sharedKey?: StorageSharedKeyCredential | undefined;
}

const OPTIONS: StoragePipelineOptions = {
  retryOptions: { maxTries: 3, tryTimeoutInMs: 60_000, retryDelayInMs: 100, maxRetryDelayInMs: 1_000 },
  userAgentOptions: { userAgentPrefix: 'longshore' },
};

/** Makes it; nothing is asked yet. FaultError where the settings name no account. */
export async function azureContainer(settings: AzureSettings): Promise<AzureContainer> {
  const service = await serviceOf(settings);
  const { credential } = service;
  return {
    service,
    container: service.getContainerClient(settings.container),
    sharedKey: credential instanceof StorageSharedKeyCredential ? credential : undefined,
  };
}

async function serviceOf(settings: AzureSettings): Promise<BlobServiceClient> {
  const { connectionString, account, accountKey, sasToken } = settings;
  if (connectionString !== undefined) {
    try {
      return BlobServiceClient.fromConnectionString(connectionString, OPTIONS);
    } catch {
      // The SDK's own words would repeat it.
      throw new FaultError(
        'unavailable',
        'storage.azure.connectionString is not a connection string of Azure Storage.',
      );
    }
  }
  const host = settings.endpoint ?? (account === undefined ? undefined : `https://${account}.blob.core.windows.net`);
  if (host === undefined)
    throw new FaultError('unavailable', 'storage.azure names neither an account, an endpoint nor a connection string.');
  if (accountKey !== undefined) {
    if (account === undefined)
      throw new FaultError('unavailable', 'storage.azure.accountKey needs storage.azure.account.');
    return new BlobServiceClient(host, new StorageSharedKeyCredential(account, accountKey), OPTIONS);
  }
  if (sasToken !== undefined)
    return new BlobServiceClient(`${host}?${sasToken.replace(/^\?/, '')}`, new AnonymousCredential(), OPTIONS);
  const { DefaultAzureCredential } = await import('@azure/identity');
  return new BlobServiceClient(host, new DefaultAzureCredential(), OPTIONS);
}
