/**
 * A place for bytes in one line, as commands take it: a folder, or the address of a bucket.
 *
 *   /var/backups/longshore
 *   s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION&pathStyle=true
 *   gs://BUCKET/PREFIX?endpoint=…
 *   azblob://CONTAINER/PREFIX?account=NAME&endpoint=…
 *
 * Credentials never stand in an address: they are those of the driver's section in the configuration, else what the
 * vendor's own library finds in the environment.
 */
import type { AzureSettings, GcsSettings, S3Settings, StorageSettings } from './settings.ts';

/** The drivers' sections as the configuration has them: what an address does not say is taken from there. */
export interface AddressSections {
  readonly s3?: Omit<S3Settings, 'driver'> | undefined;
  readonly gcs?: Omit<GcsSettings, 'driver'> | undefined;
  readonly azure?: Omit<AzureSettings, 'driver'> | undefined;
}

/** What is wrong with an address; the message is for a person. */
export class AddressError extends Error {
  override readonly name = 'AddressError';
  /** A mistake of whoever asked. */
  readonly status = 400;
}

const OPTIONS: Readonly<Record<string, readonly string[]>> = {
  s3: ['endpoint', 'region', 'pathStyle', 'ca', 'storageClass', 'checksums'],
  gs: ['endpoint', 'project'],
  azblob: ['account', 'endpoint'],
};
const LONGEST = 2_048;

/** The settings that the text describes; `folder` makes a path absolute. AddressError. */
export function parseAddress(
  text: string,
  sections: AddressSections,
  folder: (path: string) => string,
): StorageSettings {
  if (text === '' || text.length > LONGEST) throw new AddressError(`A place has 1 to ${LONGEST} characters.`);
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase();
  if (scheme === undefined) return { driver: 'fs', root: folder(text), durability: 'full' };
  const known = OPTIONS[scheme];
  if (known === undefined)
    throw new AddressError(`A place is a folder, or begins with s3://, gs:// or azblob://, not ${scheme}://.`);
  const [address = '', query = '', ...more] = text.slice(scheme.length + 3).split('?');
  if (more.length > 0) throw new AddressError('A place has one "?", in front of its options.');
  const [bucket = '', ...rest] = address.split('/');
  // Not repeated: whoever writes credentials in front of the name would find them in a log.
  if (!/^[A-Za-z0-9._-]{3,255}$/.test(bucket))
    throw new AddressError(
      `In ${scheme}://BUCKET/PREFIX, the bucket has 3 to 255 letters, digits, ".", "_" and "-", and no credentials.`,
    );
  const path = rest.filter((part) => part !== '').join('/');
  const prefix = path === '' ? '' : `${path}/`;
  if (!/^([A-Za-z0-9._-]+\/)*$/.test(prefix) || prefix.length > 256 || /(^|\/)\.\.?\//.test(prefix))
    throw new AddressError('A prefix consists of letters, digits, ".", "_" and "-", with "/" between.');
  const options = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(query)) {
    if (!known.includes(name))
      throw new AddressError(`An option of ${scheme}:// is one of ${known.join(', ')}, nothing else.`);
    if (options.has(name)) throw new AddressError(`The option ${name} is given more than once.`);
    options.set(name, value);
  }
  const endpoint = options.get('endpoint');
  if (endpoint !== undefined && !isEndpoint(endpoint))
    throw new AddressError('An endpoint is an http or https address without credentials.');
  if (scheme === 's3') return s3(bucket, prefix, options, sections.s3);
  if (scheme === 'gs') {
    const projectId = options.get('project');
    return {
      ...sections.gcs,
      ...{ driver: 'gcs', bucket, prefix },
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(projectId === undefined ? {} : { projectId }),
    };
  }
  const account = options.get('account');
  return {
    ...sections.azure,
    ...{ driver: 'azure', container: bucket, prefix },
    ...(account === undefined ? {} : { account }),
    ...(endpoint === undefined ? {} : { endpoint }),
  };
}

/** An address without credentials, query or fragment, as a library will read it. */
function isEndpoint(text: string): boolean {
  return /^https?:\/\/[A-Za-z0-9.:[\]-]+(\/[A-Za-z0-9._~/-]*)?$/.test(text) && URL.canParse(text);
}

function s3(
  bucket: string,
  prefix: string,
  options: ReadonlyMap<string, string>,
  section: AddressSections['s3'],
): StorageSettings {
  const [pathStyle, checksums] = [options.get('pathStyle'), options.get('checksums')];
  if (pathStyle !== undefined && pathStyle !== 'true' && pathStyle !== 'false')
    throw new AddressError('pathStyle is true or false.');
  if (checksums !== undefined && checksums !== 'whenSupported' && checksums !== 'whenRequired')
    throw new AddressError('checksums is whenSupported or whenRequired.');
  const given = (name: 'endpoint' | 'ca' | 'storageClass') => {
    const value = options.get(name);
    return value === undefined ? {} : { [name]: value };
  };
  return {
    ...{ serverSideEncryption: 'none' as const },
    ...section,
    ...{ driver: 's3', bucket, prefix },
    region: options.get('region') ?? section?.region ?? 'us-east-1',
    forcePathStyle: pathStyle === undefined ? (section?.forcePathStyle ?? false) : pathStyle === 'true',
    checksums: checksums ?? section?.checksums ?? 'whenSupported',
    ...given('endpoint'),
    ...given('ca'),
    ...given('storageClass'),
  };
}

/** Whether two settings lead to the same bytes: a backup does not go where the blobs already are. */
export function isSamePlace(a: StorageSettings, b: StorageSettings): boolean {
  return placeOf(a) === placeOf(b);
}

function placeOf(settings: StorageSettings): string {
  switch (settings.driver) {
    case 'fs':
      return `fs ${settings.root}`;
    case 'azure':
      return `azure ${settings.endpoint ?? settings.account} ${settings.container} ${settings.prefix}`;
    default:
      return `${settings.driver} ${settings.endpoint} ${settings.bucket} ${settings.prefix}`;
  }
}
