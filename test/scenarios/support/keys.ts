/** The signing key of a server, taken from its data folder as an attacker with the backups would, and tokens made by it. */
import { createHmac, createPrivateKey, type KeyObject, sign } from 'node:crypto';
import { copyFileSync, existsSync, globSync } from 'node:fs';
import { basename, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { temporaryFolder } from '../../support/temp.ts';

/** The newest key that signs tokens. */
export function signingKey(data: string): { readonly kid: string; readonly privateKey: KeyObject } {
  const copy = temporaryFolder('keys');
  for (const file of globSync(join(data, '*.db*'))) {
    if (!file.includes('lock.db') && existsSync(file)) copyFileSync(file, join(copy, basename(file)));
  }
  for (const file of globSync(join(copy, '*.db'))) {
    const database = new DatabaseSync(file);
    try {
      const table = database.prepare("select 1 from sqlite_master where name = 'signing_key'").get();
      if (table === undefined) continue;
      const row = database
        .prepare("select kid, secret from signing_key where purpose = 'token' order by use_from limit 1")
        .get() as { kid: string; secret: Uint8Array } | undefined;
      if (row === undefined) continue;
      return {
        kid: row.kid,
        privateKey: createPrivateKey({ key: Buffer.from(row.secret), format: 'der', type: 'pkcs8' }),
      };
    } finally {
      database.close();
    }
  }
  throw new Error(`no signing key in ${data}`);
}

export const encoded = (value: unknown): string =>
  (typeof value === 'string' ? Buffer.from(value) : Buffer.from(JSON.stringify(value))).toString('base64url');

/** Header and claims as they are, signed by ES256. */
export function signed(header: object, claims: object, key: KeyObject): string {
  const text = `${encoded(header)}.${encoded(claims)}`;
  return `${text}.${sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

/** Header and claims, with an HMAC by whatever bytes. */
export function hmacSigned(header: object, claims: object, secret: string | Uint8Array): string {
  const text = `${encoded(header)}.${encoded(claims)}`;
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
}

/** The header and claims of a token. */
export function opened(token: string): { header: Record<string, unknown>; claims: Record<string, unknown> } {
  const [header, claims] = token
    .split('.', 2)
    .map((part) => JSON.parse(Buffer.from(part, 'base64url').toString() || '{}'));
  return { header, claims };
}
