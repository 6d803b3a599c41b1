/** What lies in a server's data folder: the signing key, as an attacker with the backups would take it, rows, the clock. */
import { createHmac, createPrivateKey, type KeyObject, sign } from 'node:crypto';
import { copyFileSync, existsSync, globSync } from 'node:fs';
import { basename, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { temporaryFolder } from '../../support/temp.ts';

/** A copy of a server's database files, to look into while it runs. */
function copyOf(data: string): string[] {
  const copy = temporaryFolder('keys');
  for (const file of globSync(join(data, '*.db*'))) {
    if (!file.includes('lock.db') && existsSync(file)) copyFileSync(file, join(copy, basename(file)));
  }
  return globSync(join(copy, '*.db'));
}

/** The one database of the folder that has this table. */
export function databaseWith(table: string, files: readonly string[]): DatabaseSync {
  for (const file of files) {
    const database = new DatabaseSync(file);
    if (database.prepare('select 1 from sqlite_master where name = ?').get(table) !== undefined) return database;
    database.close();
  }
  throw new Error(`no database has the table ${table}`);
}

/** How many rows a table has, read from a copy. */
export function rowsOf(data: string, table: 'upload'): number {
  const database = databaseWith(table, copyOf(data));
  try {
    return Number(Object.values(database.prepare(`select count(*) as n from ${table}`).get() ?? {})[0]);
  } finally {
    database.close();
  }
}

/** Moves the clock of a data folder that no server has, as if it had been up for so many ticks more. */
export function passTicks(data: string, ticks: number): void {
  const files = globSync(join(data, '*.db')).filter((file) => !file.endsWith('lock.db'));
  const database = databaseWith('gc_clock', files);
  database.prepare('update gc_clock set tick = tick + ?').run(ticks);
  database.close();
}

/** The newest key that signs tokens. */
export function signingKey(data: string): { readonly kid: string; readonly privateKey: KeyObject } {
  for (const file of copyOf(data)) {
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
