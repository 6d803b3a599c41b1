/** Where bytes lie: one of four drivers with a section each, the redirects to it, and the cache in front of it. */
import * as z from 'zod';
import { addressRange, bytes, duration, secret, webAddress } from './values.ts';

const prefix = z
  .string()
  .max(256)
  .regex(/^([A-Za-z0-9._-]+\/)*$/, 'must be empty or end in "/", of letters, digits, ".", "_" and "-"')
  .default('')
  .describe('Put in front of every object’s name, as in "longshore/", so that a bucket can hold more than this.');

const endpoint = webAddress();

const fs = z.strictObject({
  root: z.string().min(1).optional().describe('The folder. Absent: `storage` in the data folder.'),
});

const s3 = z
  .strictObject({
    bucket: z.string().min(3).max(255).describe('The bucket; it must be there.'),
    prefix,
    region: z.string().min(1).default('us-east-1').describe('The region of the bucket.'),
    endpoint: endpoint.optional().describe('The address of a compatible server. Absent: Amazon’s of the region.'),
    forcePathStyle: z
      .boolean()
      .default(false)
      .describe('Name the bucket in the path instead of in the host, as most compatible servers want.'),
    accessKeyId: secret()
      .optional()
      .describe('With secretAccessKey. Absent: the environment, web identity, container or instance role of AWS.'),
    secretAccessKey: secret().optional().describe('With accessKeyId.'),
    sessionToken: secret().optional().describe('Of temporary credentials.'),
    ca: z
      .string()
      .min(1)
      .optional()
      .describe('PEM file with the authorities that may sign the endpoint’s certificate.'),
    serverSideEncryption: z
      .enum(['none', 'AES256', 'aws:kms'])
      .default('none')
      .describe('What the store is asked to encrypt with; none: what the bucket does by itself.'),
    kmsKeyId: z.string().min(1).optional().describe('The key of `aws:kms`. Absent: the account’s own.'),
    storageClass: z.string().min(1).max(64).optional().describe('Of new objects, as in "STANDARD_IA".'),
    checksums: z
      .enum(['whenSupported', 'whenRequired'])
      .default('whenSupported')
      .describe('whenRequired: for servers that do not know checksum trailers.'),
  })
  .refine((given) => (given.accessKeyId === undefined) === (given.secretAccessKey === undefined), {
    message: 'accessKeyId and secretAccessKey belong together',
  });

const gcs = z.strictObject({
  bucket: z.string().min(3).max(222).describe('The bucket; it must be there.'),
  prefix,
  endpoint: endpoint.optional().describe('The address of a compatible server. Absent: Google’s.'),
  projectId: z.string().min(1).optional().describe('Absent: that of the credentials.'),
  keyFile: z
    .string()
    .min(1)
    .optional()
    .describe('JSON file with a service account’s key. Absent: application default credentials.'),
});

const azure = z.strictObject({
  container: z.string().min(3).max(63).describe('The container; it must be there.'),
  prefix,
  account: z.string().min(3).max(24).optional().describe('The storage account; in `connectionString` already.'),
  endpoint: endpoint.optional().describe('The address of the account’s blob service. Absent: Azure’s own.'),
  accountKey: secret().optional().describe('The account’s key.'),
  sasToken: secret().optional().describe('A shared access signature for the container.'),
  connectionString: secret()
    .optional()
    .describe('Everything in one. Without key, token and string: managed or workload identity.'),
});

const places = {
  driver: z.enum(['fs', 's3', 'gcs', 'azure']).default('fs').describe('Where blobs lie.'),
  fs: fs.prefault({}).describe('A folder.'),
  s3: s3.optional().describe('A bucket of S3 or of what is compatible.'),
  gcs: gcs.optional().describe('A bucket of Google Cloud Storage.'),
  azure: azure.optional().describe('A container of Azure Blob Storage.'),
};

type Places = { readonly driver: 'fs' | 's3' | 'gcs' | 'azure'; readonly [section: string]: unknown };

const sectionIsThere = (given: Places): boolean => given[given.driver] !== undefined;
const SECTION_MISSING = { message: 'the section of the chosen driver is missing', path: ['driver'] };

/** A place for bytes beside the main one: what is healed from. */
export const otherPlace = z
  .strictObject(places)
  .refine(sectionIsThere, SECTION_MISSING)
  .refine((given) => given.driver !== 'fs' || given.fs.root !== undefined, {
    message: 'another folder needs its `root`',
    path: ['fs'],
  });

const redirect = z.strictObject({
  enabled: z
    .boolean()
    .default(true)
    .describe('Send clients to the object store for blobs. Files are always served from here.'),
  lifetime: duration({ least: 10_000, most: 86_400_000 })
    .prefault('15m')
    .describe('How long such an address works; never longer than gc.deleteAfterTicks ticks.'),
  exceptNetworks: z
    .array(addressRange)
    .max(1_000)
    .default([])
    .describe('Clients that cannot reach the object store: they are served from here.'),
  exceptUserAgents: z
    .array(z.string().min(1).max(256))
    .max(100)
    .default([])
    .describe('Clients by the beginning of their User-Agent that are served from here.'),
});

const cache = z.strictObject({
  path: z.string().min(1).optional().describe('The folder. Absent: `cache` in the data folder.'),
  maxBytes: bytes({ least: 2 ** 20, most: 2 ** 50 })
    .optional()
    .describe('Most bytes that it holds. Absent: there is no cache.'),
});

/** The section `storage`. */
export const storage = z
  .strictObject({
    ...places,
    durability: z
      .enum(['full', 'relaxed'])
      .default('full')
      .describe('full: what was acknowledged survives a power cut. relaxed: it survives a crash of the program.'),
    redirect: redirect.prefault({}).describe('Clients fetch blobs from the object store itself.'),
    cache: cache
      .prefault({})
      .describe('Blobs on the local disk, in front of an object store that is not redirected to.'),
  })
  .refine(sectionIsThere, SECTION_MISSING);

/** A checked place. */
export type Place = z.output<typeof otherPlace>;
