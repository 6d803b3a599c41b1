/**
 * What is left when nobody works any more: every lifetime, grace and window is let pass, what the instances would do
 * meanwhile is done here, and then the store is compared with the rows: exactly what is named is there.
 */
import { Client } from 'pg';
import { COMMANDS } from '../../../src/commands.ts';
import { openPostgres } from '../../../src/database/open.ts';
import { systemClock } from '../../../src/kit/clock.ts';
import { noMetrics, silentLog } from '../../../src/kit/log.ts';
import { expireUploads } from '../../../src/maintenance/expire.ts';
import { collector } from '../../../src/maintenance/gc.ts';
import { MIGRATIONS } from '../../../src/migrations.ts';
import { blobKey, parseBlobKey } from '../../../src/oci/blob-key.ts';
import { digestFromBytes, digestToBytes } from '../../../src/oci/digest.ts';
import { openObjectStorage } from '../../../src/storage/objects/objects.ts';
import { s3Objects } from '../../../src/storage/s3/s3.ts';
import { objectsOf, type Shared } from './fleet.ts';

/** What a fleet's collector is configured with, ticks. */
export interface Windows {
  readonly grace: number;
  readonly undelete: number;
  readonly deleteAfter: number;
  readonly uploadLifetime: number;
}

/** What is there afterwards. */
export interface Settled {
  /** The digests of all blobs that are live. */
  readonly live: ReadonlySet<string>;
  /** Objects that no row names, rows whose bytes are missing, files of uploads. */
  readonly wrong: readonly string[];
  /** How many uploads the sweep had to remove, and how many keys the collector deleted. */
  readonly swept: { readonly uploads: number; readonly keys: number };
}

const TWO_DAYS = 2 * 86_400_000;
/** Rounds, each with every window past; what the last but one left is a mistake. */
const ROUNDS = 6;

/** Lets time pass for a fleet that is stopped. */
export async function settle(shared: Shared, windows: Windows): Promise<Settled> {
  const parts = { clock: systemClock, log: silentLog, metrics: noMetrics };
  const { grace, undelete, uploadLifetime } = windows;
  const database = await openPostgres({
    ...parts,
    url: shared.url,
    commands: COMMANDS,
    migrations: MIGRATIONS,
    ticks: { grace, undelete, uploadLifetime },
  });
  // What nobody touched since the day before yesterday, seen from the day after tomorrow.
  const later = { ...systemClock, now: () => Date.now() + TWO_DAYS };
  const storage = await openObjectStorage({ ...parts, store: await s3Objects(shared.bucket), clock: later });
  const sql = new Client({ connectionString: shared.url });
  await sql.connect();
  const before = new Set(await uploadsOf(shared));
  let keys = 0;
  try {
    const collecting = collector({
      ...parts,
      database,
      storage,
      settings: { deleteAfterTicks: windows.deleteAfter, sweepTicks: 1, haltShare: 1 },
    });
    const { signal } = new AbortController();
    for (let round = 0; round < ROUNDS; round++) {
      await sql.query('update gc_clock set tick = tick + $1', [grace + undelete + uploadLifetime + 10]);
      // The look for what uploads left is due every few hours only; that for orphans is due by the tick.
      await sql.query("update lease set due_tick = 0 where name = 'upload.sweep'");
      await expireUploads({ ...parts, database, storage }, signal);
      for (;;) {
        const { more, deleted } = await collecting.step(signal);
        keys += deleted;
        if (!more) break;
      }
    }
    const wrong: string[] = [];
    const rows = await sql.query<{ digest: Buffer; n: string; size: string; stored: number; bytes: string | null }>(
      `select b.digest, b.n, b.size, b.stored, length(c.bytes) as bytes from blob b
       left join content c on c.digest = b.digest where b.state = 'live'`,
    );
    const live = new Set<string>();
    const named = new Set<string>();
    for (const { digest, n, size, stored, bytes } of rows.rows) {
      live.add(digestFromBytes(digest));
      const key = blobKey(digestFromBytes(digest), Number(n));
      if (Number(stored) === 0) {
        // A spill that died before it said so has put the bytes there already; the next one puts the same.
        named.add(`blobs/${key}`);
        if (Number(bytes) !== Number(size)) wrong.push(`${key}: ${bytes} bytes in the database instead of ${size}`);
        continue;
      }
      named.add(`blobs/${key}`);
      const there = await storage.stat(key);
      if (there?.size !== Number(size)) wrong.push(`${key}: ${there?.size} bytes in the store instead of ${size}`);
    }
    for (const name of await objectsOf(shared)) {
      if (name.startsWith('uploads/')) wrong.push(`${name} is left of an upload`);
      if (!name.startsWith('blobs/')) continue;
      if (parseBlobKey(name.slice('blobs/'.length)) === undefined) wrong.push(`${name} is no blob's name`);
      else if (!named.has(name)) wrong.push(`${name}: no row names it${await toldOf(sql, name)}`);
    }
    return { live, wrong, swept: { uploads: before.size, keys } };
  } finally {
    await sql.end();
    await database.close();
    await storage.close();
  }
}

/** What the database says of a key that is not named by a live row. */
async function toldOf(sql: Client, name: string): Promise<string> {
  const parsed = parseBlobKey(name.slice('blobs/'.length));
  if (parsed === undefined) return '';
  const digest = digestToBytes(parsed.digest);
  const blob = await sql.query('select state, n, stored from blob where digest = $1', [digest]);
  const dead = await sql.query('select n, confirmed from dead_key where digest = $1', [digest]);
  return `: n ${parsed.n}, row ${JSON.stringify(blob.rows)}, dead ${JSON.stringify(dead.rows)}`;
}

async function uploadsOf(shared: Shared): Promise<string[]> {
  const names = await objectsOf(shared);
  return names.flatMap((name) => (name.startsWith('uploads/') ? [name.split('/')[1]!] : []));
}
