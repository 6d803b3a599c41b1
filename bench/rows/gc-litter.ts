/** Garbage made in bulk, as an installation has it that was never cleaned: live blobs, linked, named by nothing, due. */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Client } from 'pg';
import { digestFromHex, digestToBytes } from '../../src/oci/digest.ts';

/** The repository that holds it. */
const REPOSITORY = 'bench/litter';
const BYTES = Buffer.from('litter');
const INSERT_REPOSITORY = `insert into repository (uid, project_id, name, active_tick, created_at)
  values ('NAME', (select min(id) from project), 'NAME', 1, 0) returning id`;

/** The digests of one planting: new ones for every name. */
function digestsOf(name: string, count: number): Buffer[] {
  return Array.from({ length: count }, (_, at) => createHash('sha256').update(`${name} ${at}`).digest());
}

/** As the database keeps a digest. */
const form = (digest: Buffer): Uint8Array => digestToBytes(digestFromHex('sha256', digest.toString('hex')));

/** Files as the storage keeps them: `blobs/sha256/ab/…` below its folder. */
function writeFiles(folder: string, digests: readonly Buffer[]): void {
  for (const digest of digests) {
    const hex = digest.toString('hex');
    const file = join(folder, 'blobs/sha256', hex.slice(0, 2), hex);
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, BYTES, { mode: 0o600 });
  }
}

/** Into the files of a server that is not running. */
export function litterFiles(data: string, name: string, count: number): void {
  const digests = digestsOf(name, count);
  writeFiles(join(data, 'storage'), digests);
  using database = new DatabaseSync(join(data, 'longshore.db'));
  database.exec('begin immediate');
  const { id } = database.prepare(INSERT_REPOSITORY.replaceAll('NAME', `${REPOSITORY}-${name}`)).get() as {
    id: number;
  };
  const blob = database.prepare("insert into blob (digest, state, size, n, stored) values (?, 'live', 6, 0, 1)");
  const link = database.prepare('insert into link (repository_id, digest) values (?, ?)');
  const queue = database.prepare('insert into gc_queue (repository_id, digest, due_tick) values (?, ?, 1)');
  for (const digest of digests) {
    blob.run(form(digest));
    link.run(id, form(digest));
    queue.run(id, form(digest));
  }
  // Old enough that no push is taken to be under way.
  database.exec('update gc_clock set tick = tick + 1000; commit');
}

/** Into PostgreSQL and the folder of a bucket. */
export async function litterShared(client: Client, folder: string, name: string, count: number): Promise<void> {
  const digests = digestsOf(name, count);
  writeFiles(folder, digests);
  await client.query('begin');
  const { rows } = await client.query(INSERT_REPOSITORY.replaceAll('NAME', `${REPOSITORY}-${name}`));
  const id = (rows[0] as { id: number }).id;
  const forms = digests.map((digest) => `\\x${Buffer.from(form(digest)).toString('hex')}`);
  await client.query(
    "insert into blob (digest, state, size, n, stored) select d::bytea, 'live', 6, 0, 1 from unnest($1::text[]) d",
    [forms],
  );
  await client.query('insert into link (repository_id, digest) select $2, d::bytea from unnest($1::text[]) d', [
    forms,
    id,
  ]);
  await client.query(
    'insert into gc_queue (repository_id, digest, due_tick) select $2, d::bytea, 1 from unnest($1::text[]) d',
    [forms, id],
  );
  await client.query('update gc_clock set tick = tick + 1000');
  await client.query('commit');
}
