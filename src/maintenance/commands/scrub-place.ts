/**
 * The scrub's round and place in the database. One process holds it at a time, by an owner and a fence that every
 * advance checks; what died gives it up by silence.
 */
import type { Command, CommandContext } from '../../database/database.ts';

/** How long a claim lasts without an advance. Milliseconds. */
export const SCRUB_CLAIM = 60_000;

/** The round as it stands. `endedAt` null: under way. Times are wall milliseconds; round 0: there was none. */
export interface ScrubPlace {
  readonly round: number;
  readonly begunAt: number;
  readonly endedAt: number | null;
  /** All digests up to this one are done. */
  readonly place: Uint8Array;
  readonly fence: number;
}

/** What an advance adds. */
export interface ScrubCounts {
  readonly blobs: number;
  readonly bytes: number;
  readonly damaged: number;
  readonly unreadable: number;
}

interface Row {
  readonly round: number;
  readonly begun_at: number;
  readonly ended_at: number | null;
  readonly place: Uint8Array;
  readonly owner: string;
  readonly fence: number;
  readonly until_at: number;
}

const FIND =
  'select round, begun_at, ended_at, place, owner, fence, until_at from scrub where id = 1 {for no key update}';

async function row({ sql }: CommandContext): Promise<Row> {
  for (;;) {
    const found = await sql.get<Row>(FIND);
    if (found !== undefined) return found;
    await sql.run(
      "insert into scrub (id, round, begun_at, ended_at, place, owner) values (1, 0, 0, 0, ?, '') on conflict (id) do nothing",
      new Uint8Array(0),
    );
  }
}

/** Takes the scrub for `owner`; undefined: another has it. `alone`: no other process can have it, so a claim of one that died is not waited for. */
export const scrubClaim: Command<{ owner: string; alone: boolean }, ScrubPlace | undefined> = {
  name: 'scrub-claim',
  file: 'side',
  async run(context, { owner, alone }) {
    const { sql, now } = context;
    const found = await row(context);
    // A claim that is further ahead than any can be was made before the clock was set back.
    const held = found.until_at > now && found.until_at <= now + SCRUB_CLAIM && found.owner !== owner;
    if (held && !alone) return { result: undefined, touched: [] };
    const fence = found.owner === owner ? found.fence : found.fence + 1;
    await sql.run('update scrub set owner = ?, fence = ?, until_at = ? where id = 1', owner, fence, now + SCRUB_CLAIM);
    const { round, begun_at: begunAt, ended_at: endedAt, place } = found;
    return { result: { round, begunAt, endedAt, place, fence }, touched: [] };
  },
};

/** Begins a round at the first digest. False: the scrub is another's by now. */
export const scrubBegin: Command<{ fence: number; totalBlobs: number; totalBytes: number }, boolean> = {
  name: 'scrub-begin',
  file: 'side',
  async run({ sql, now }, { fence, totalBlobs, totalBytes }) {
    const changed = await sql.run(
      `update scrub set round = round + 1, begun_at = ?, ended_at = null, place = ?, blobs = 0, bytes = 0, damaged = 0,
         unreadable = 0, total_blobs = ?, total_bytes = ?, halted = null, until_at = ?
       where id = 1 and fence = ?`,
      now,
      new Uint8Array(0),
      totalBlobs,
      totalBytes,
      now + SCRUB_CLAIM,
      fence,
    );
    return { result: changed === 1, touched: [] };
  },
};

/** Moves the place and adds to the counts; `ended`: the round is over. `halted`: why nothing more is looked at, null: nothing is wrong. False: the scrub is another's by now. */
export const scrubAdvance: Command<
  { fence: number; place: Uint8Array; counts: ScrubCounts; ended: boolean; halted: string | null },
  boolean
> = {
  name: 'scrub-advance',
  file: 'side',
  async run({ sql, now }, { fence, place, counts, ended, halted }) {
    const changed = await sql.run(
      `update scrub set place = ?, blobs = blobs + ?, bytes = bytes + ?, damaged = damaged + ?,
         unreadable = unreadable + ?, ended_at = ?, halted = ?, until_at = ?
       where id = 1 and fence = ?`,
      place,
      counts.blobs,
      counts.bytes,
      counts.damaged,
      counts.unreadable,
      ended ? now : null,
      halted,
      ended ? now : now + SCRUB_CLAIM,
      fence,
    );
    return { result: changed === 1, touched: [] };
  },
};
