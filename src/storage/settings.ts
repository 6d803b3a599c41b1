/** Where bytes are to lie, as each driver is told. Secrets never appear in messages. */

/** A folder. */
export interface FsSettings {
  readonly driver: 'fs';
  /** Made where it is missing. */
  readonly root: string;
  /** `full`: what is acknowledged survives a power cut. `relaxed`: only the end of the process. */
  readonly durability: 'full' | 'relaxed';
}

/** A bucket of S3, or of what is compatible. */
export interface S3Settings {
  readonly driver: 's3';
  readonly bucket: string;
  /** Empty, or ends in "/". */
  readonly prefix: string;
  readonly region: string;
  readonly endpoint?: string | undefined;
  readonly forcePathStyle: boolean;
  /** Without them the SDK's chain: environment, web identity, container, instance. */
  readonly accessKeyId?: string | undefined;
  readonly secretAccessKey?: string | undefined;
  readonly sessionToken?: string | undefined;
  /** The path of a PEM file. */
  readonly ca?: string | undefined;
  readonly serverSideEncryption: 'none' | 'AES256' | 'aws:kms';
  readonly kmsKeyId?: string | undefined;
  readonly storageClass?: string | undefined;
  readonly checksums: 'whenSupported' | 'whenRequired';
}

/** A bucket of Google Cloud Storage. */
export interface GcsSettings {
  readonly driver: 'gcs';
  readonly bucket: string;
  readonly prefix: string;
  readonly endpoint?: string | undefined;
  readonly projectId?: string | undefined;
  readonly keyFile?: string | undefined;
}

/** A container of Azure Blob Storage. */
export interface AzureSettings {
  readonly driver: 'azure';
  readonly container: string;
  readonly prefix: string;
  readonly account?: string | undefined;
  readonly endpoint?: string | undefined;
  readonly accountKey?: string | undefined;
  readonly sasToken?: string | undefined;
  readonly connectionString?: string | undefined;
}

/** Any of them. */
export type StorageSettings = FsSettings | S3Settings | GcsSettings | AzureSettings;
