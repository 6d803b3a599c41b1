/**
 * Signed GET addresses without the SDK's middleware: a redirect costs a few hashes instead of most of a millisecond.
 * What the addresses of this bucket look like (host, path, region) is taken from one that the SDK signed, so that every
 * kind of endpoint it knows is right here as well; where that one is of a kind that is not known here, the SDK signs.
 */
import { createHash, createHmac } from 'node:crypto';
import { GetObjectCommand, type S3Client } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { systemClock } from '../../kit/clock.ts';

/** What is asked of the object beside its name. */
export interface Signing {
  /** How long the address is good for. */
  readonly seconds: number;
  /** Content-Disposition and Content-Type of the answer. */
  readonly disposition?: string;
  readonly type?: string;
}

/** Signs addresses of a bucket. */
export interface Signer {
  /** `key`: the whole name, with the configured prefix. Rejects with errors of the SDK. */
  sign(key: string, signing: Signing): Promise<string>;
}

interface Form {
  /** With the scheme. */
  readonly origin: string;
  readonly host: string;
  /** What stands in front of the key. */
  readonly path: string;
  readonly region: string;
}

const ALGORITHM = 'AWS4-HMAC-SHA256';
const PROBE = 'probe';
const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();
const encode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`);

/** A signer with the client's credentials and endpoint. */
export function signer(client: S3Client, bucket: string): Signer {
  const bySdk = (key: string, { seconds, disposition, type }: Signing): Promise<string> =>
    getSignedUrl(
      client,
      new GetObjectCommand({
        Bucket: bucket,
        Key: key,
        ...(type === undefined ? {} : { ResponseContentType: type }),
        ...(disposition === undefined ? {} : { ResponseContentDisposition: disposition }),
      }),
      { expiresIn: seconds },
    );
  let form: Promise<Form | undefined> | undefined;
  const formOf = (): Promise<Form | undefined> => {
    form ??= bySdk(PROBE, { seconds: 60 }).then(formIn);
    // Credentials that could not be had now may be had later.
    form.catch(() => {
      form = undefined;
    });
    return form;
  };
  let last: { readonly secret: string; readonly scope: string; readonly key: Buffer } | undefined;
  const signingKey = (secret: string, date: string, region: string): Buffer => {
    const scope = `${date}/${region}`;
    if (last?.secret !== secret || last.scope !== scope) {
      const key = hmac(hmac(hmac(hmac(`AWS4${secret}`, date), region), 's3'), 'aws4_request');
      last = { secret, scope, key };
    }
    return last.key;
  };
  return {
    async sign(key, signing) {
      const known = await formOf();
      if (known === undefined) return bySdk(key, signing);
      const { accessKeyId, secretAccessKey, sessionToken } = await client.config.credentials();
      const { origin, host, path, region } = known;
      const at = new Date(systemClock.now() + client.config.systemClockOffset).toISOString().replace(/[-:]|\.\d+/g, '');
      const scope = `${at.slice(0, 8)}/${region}/s3/aws4_request`;
      // In the order of their names, as they are signed.
      const query = [
        `X-Amz-Algorithm=${ALGORITHM}`,
        `X-Amz-Credential=${encode(`${accessKeyId}/${scope}`)}`,
        `X-Amz-Date=${at}`,
        `X-Amz-Expires=${signing.seconds}`,
        ...(sessionToken === undefined ? [] : [`X-Amz-Security-Token=${encode(sessionToken)}`]),
        'X-Amz-SignedHeaders=host',
        ...(signing.disposition === undefined ? [] : [`response-content-disposition=${encode(signing.disposition)}`]),
        ...(signing.type === undefined ? [] : [`response-content-type=${encode(signing.type)}`]),
      ].join('&');
      const uri = path + key.split('/').map(encode).join('/');
      const request = `GET\n${uri}\n${query}\nhost:${host}\n\nhost\nUNSIGNED-PAYLOAD`;
      const text = `${ALGORITHM}\n${at}\n${scope}\n${createHash('sha256').update(request).digest('hex')}`;
      const signature = hmac(signingKey(secretAccessKey, at.slice(0, 8), region), text).toString('hex');
      return `${origin}${uri}?${query}&X-Amz-Signature=${signature}`;
    },
  };
}

/** The form of an address that the SDK signed; undefined where it is signed in another way. */
function formIn(address: string): Form | undefined {
  const { protocol, host, pathname, searchParams } = new URL(address);
  const [, , region, service] = (searchParams.get('X-Amz-Credential') ?? '').split('/');
  const isPlain =
    searchParams.get('X-Amz-Algorithm') === ALGORITHM &&
    searchParams.get('X-Amz-SignedHeaders') === 'host' &&
    service === 's3' &&
    pathname.endsWith(`/${PROBE}`);
  if (!isPlain || region === undefined) return undefined;
  return { origin: `${protocol}//${host}`, host, path: pathname.slice(0, -PROBE.length), region };
}
