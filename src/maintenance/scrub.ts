/**
 * The scrub: hashes all stored bytes again, in digest order, at a set rate, in small steps. Where it is stands in the
 * database, so a restart goes on there, and of all instances one works at a time. What is damaged is taken out of
 * service, or stored again where the database has the bytes; healing is another job (`heal.ts`).
 */
import type { Database } from '../database/database.ts';
import type { Job } from '../jobs/job.ts';
import type { Clock } from '../kit/clock.ts';
import { failpoint } from '../kit/failpoint.ts';
import { randomId } from '../kit/id.ts';
import type { Log } from '../kit/log.ts';
import { blobDamaged } from '../local/commands/blob-commands.ts';
import { isWhole } from '../local/commands/damage.ts';
import { blobKey } from '../oci/blob-key.ts';
import { digestFromBytes } from '../oci/digest.ts';
import { FaultError } from '../oci/error.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { inlineDamaged } from './commands/damage-inline.ts';
import { scrubAdvance, scrubBegin, scrubClaim } from './commands/scrub-place.ts';
import { type Check, type Checked, checkStored, READ, readWhole } from './scrub-check.ts';
import type { TrustMeasures } from './scrub-measures.ts';
import { rateLimit } from './scrub-rate.ts';
import { countDamaged } from './scrub-status.ts';

/** How it scrubs. */
export interface ScrubSettings {
  /** Bytes per second, of the whole installation. */
  readonly rate: number;
  /** Milliseconds from the beginning of a round to that of the next. */
  readonly every: number;
}

/** What it is made of. */
export interface ScrubParts {
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly clock: Clock;
  readonly log: Log;
  readonly measures: TrustMeasures;
  readonly settings: ScrubSettings;
}

/** How a step is done. */
export interface StepOptions {
  /** Begins a round though none is due. */
  readonly begin?: boolean;
  /** As fast as it goes. */
  readonly fullSpeed?: boolean;
  /** Though everything seems to be missing. */
  readonly force?: boolean;
}

/** What a step did. */
export interface Scrubbed {
  readonly blobs: number;
  readonly bytes: number;
  /** Blobs whose bytes, in storage or in the database, were wrong or missing. */
  readonly damaged: number;
  readonly unreadable: number;
  /** The round goes on. */
  readonly more: boolean;
  /** Nothing can be done for a moment: `busy`, another process scrubs; else why storage cannot be asked. */
  readonly waits?: string;
}

/** Scrubs. */
export interface Scrubber {
  /** One small step, about 8 MiB or 64 blobs; ends early when aborted. One at a time in a process: others wait. */
  step(signal: AbortSignal, options?: StepOptions): Promise<Scrubbed>;
}

/** What one step reads, and how many blobs it looks at. */
const STEP_BYTES = 8 * 1024 * 1024;
const STEP_BLOBS = 64;
/** How often storage may fail to read one blob while it answers otherwise. */
const TRIES = 3;
/** Where so many blobs in a row are missing and none is there, this is the wrong place and not damage. */
const ALL_MISSING = 10;
/** Largest inline bytes that are read from storage at once: those of a manifest. */
const MOST_INLINE = 4 * 1024 * 1024;
const PAUSE = 5_000;
const TURN_MILLISECONDS = 60_000;

/** Another process has the scrub. */
export const BUSY = 'another process scrubs';

interface Row {
  readonly digest: Uint8Array;
  readonly n: number;
  readonly size: number;
  readonly stored: number;
  readonly inline: number;
  readonly manifest: number;
}

const COLUMNS = `b.digest, b.n, b.size, b.stored,
  (select count(*) from content c where c.digest = b.digest) as inline,
  (select count(*) from (select 1 as one from manifest m where m.digest = b.digest limit 1) as bounded) as manifest`;
const NEXT = `select ${COLUMNS} from blob b where b.digest > ? and b.state = 'live' order by b.digest limit ${STEP_BLOBS}`;
const AGAIN = `select ${COLUMNS} from blob b where b.digest = ? and b.state = 'live'`;

/** The scrub of this database and storage. */
export function scrubber(parts: ScrubParts): Scrubber {
  const { database, storage, clock, log, settings } = parts;
  const owner = Buffer.from(randomId(12)).toString('base64url');
  const lane = { lane: 'job' } as const;
  const limit = rateLimit(clock, settings.rate);
  const measure = parts.measures;
  /** The large blob that is being read over several steps; lost with the process, begun again then. */
  let open: { readonly round: number; readonly key: string; readonly check: Check } | undefined;
  let failing: { readonly key: string; readonly tries: number } | undefined;
  let claimed = false;
  let halted = false;
  let queue: Promise<unknown> = Promise.resolve();

  async function step(signal: AbortSignal, options: StepOptions): Promise<Scrubbed> {
    const tally = { blobs: 0, bytes: 0, damaged: 0, unreadable: 0 };
    const place = await database.run(scrubClaim, { owner, alone: !database.shared && !claimed }, lane);
    if (place === undefined) return { ...tally, more: true, waits: BUSY };
    claimed = true;
    let { round, place: at } = place;
    const { fence } = place;
    if (place.endedAt !== null) {
      if (options.begin !== true && !isDue(place, clock.now(), settings.every)) return { ...tally, more: false };
      const all = await database.query.get<{ blobs: number; bytes: number }>(
        "select count(*) as blobs, coalesce(sum(size), 0) as bytes from blob where state = 'live'",
      );
      const totals = { totalBlobs: Number(all?.blobs ?? 0), totalBytes: Number(all?.bytes ?? 0) };
      if (!(await database.run(scrubBegin, { fence, ...totals }, lane))) return { ...tally, more: true, waits: BUSY };
      round += 1;
      at = new Uint8Array(0);
      log.info('a scrub begins', { round, ...totals });
    }
    const turn = async (bytes: number): Promise<void> => {
      if (options.fullSpeed === true) signal.throwIfAborted();
      else await limit.take(bytes, signal);
      tally.bytes += bytes;
      measure.bytes(bytes);
    };
    const rows = await database.query.all<Row>(NEXT, at);
    const found = await look(rows, { round, turn, signal, force: options.force === true, tally });
    failpoint('scrub.advance.before');
    const ended = rows.length < STEP_BLOBS && found.looked === rows.length;
    const advanced = await database.run(
      scrubAdvance,
      {
        ...{ fence, ended, counts: tally, halted: found.halted ?? null },
        place: found.looked === 0 ? at : rows[found.looked - 1]!.digest,
      },
      lane,
    );
    failpoint('scrub.advance.after');
    if (ended && advanced) log.info('a scrub has ended', { round });
    if (tally.damaged > 0 || ended) measure.open(await countDamaged(database));
    const waits = advanced ? (found.halted ?? found.waits) : BUSY;
    return { ...tally, more: !ended, ...(waits === undefined ? {} : { waits }) };
  }

  interface Look {
    readonly round: number;
    readonly signal: AbortSignal;
    readonly force: boolean;
    readonly tally: { blobs: number; bytes: number; damaged: number; unreadable: number };
    turn(bytes: number): Promise<void>;
  }
  interface Looked {
    /** How many of the rows are done. */
    looked: number;
    waits?: string;
    halted?: string;
  }

  /** Looks at the rows in order until the step is full. What is missing is judged at its end, all of it at once. */
  async function look(rows: readonly Row[], about: Look): Promise<Looked> {
    const { tally } = about;
    const missing: { readonly row: Row; readonly checked: Checked }[] = [];
    let there = 0;
    const done: Looked = { looked: 0 };
    for (const row of rows) {
      if (about.signal.aborted || tally.bytes >= STEP_BYTES) break;
      try {
        const checked = await checkRow(row, about);
        if (checked.state === 'more') break;
        if (checked.state === 'damaged' && checked.missing) missing.push({ row, checked });
        else {
          if (row.stored === 1) there++;
          if (checked.state === 'damaged') await report(row, checked.why, tally);
        }
        failing = undefined;
      } catch (error) {
        if (about.signal.aborted) break;
        const waits = await troubleWith(row, error as Error);
        if (waits !== undefined) {
          done.waits = waits;
          break;
        }
        tally.unreadable++;
      }
      done.looked++;
      tally.blobs++;
    }
    if (missing.length >= ALL_MISSING && there === 0 && !about.force) {
      const why = `none of ${missing.length} blobs is in storage: is it the right place? "longshore scrub run --force" goes on`;
      if (!halted) log.error('the scrub has halted', { why });
      halted = true;
      tally.blobs = 0;
      return { looked: 0, halted: why };
    }
    halted = false;
    for (const { row, checked } of missing) if (checked.state === 'damaged') await report(row, checked.why, tally);
    return done;
  }

  /** Checks inline bytes and, in parts, stored ones. */
  async function checkRow(row: Row, about: Look): Promise<Checked> {
    if ((row.inline === 0 && (row.stored === 0 || row.manifest > 0)) || row.inline > 0) await checkInline(row, about);
    if (row.stored === 0) return { state: 'whole' };
    const digest = digestFromBytes(row.digest);
    const key = blobKey(digest, row.n);
    if (open?.key !== key || open.round !== about.round) {
      const check = checkStored({ storage, key, digest, size: row.size, turn: about.turn });
      open = { round: about.round, key, check };
    }
    const { check } = open;
    for (;;) {
      const checked = await check.go(Math.max(READ, STEP_BYTES - about.tally.bytes));
      if (checked.state !== 'more') open = undefined;
      if (checked.state !== 'more' || about.tally.bytes >= STEP_BYTES) return checked;
    }
  }

  /** Inline bytes that are wrong, or missing where they are needed, come back from storage or the blob is damaged. */
  async function checkInline(row: Row, about: Look): Promise<void> {
    const inline = await database.query.get<{ bytes: Uint8Array }>(
      'select bytes from content where digest = ?',
      row.digest,
    );
    if (inline !== undefined) {
      await about.turn(inline.bytes.length);
      if (isWhole(row.digest, inline.bytes)) return;
    }
    const digest = digestFromBytes(row.digest);
    const key = blobKey(digest, row.n);
    const stored = row.stored === 1 && row.size <= MOST_INLINE ? await readWhole(storage, key, row.size) : undefined;
    const bytes = stored !== undefined && isWhole(row.digest, stored) ? stored : undefined;
    const why = `its bytes in the database ${inline === undefined ? 'are missing' : 'have another digest'}`;
    failpoint('scrub.damage.before');
    const args = { digest: row.digest, n: row.n, why, ...(bytes === undefined ? {} : { bytes }) };
    const outcome = await database.run(inlineDamaged, args, lane);
    failpoint('scrub.damage.after');
    if (outcome === 'stale') return;
    about.tally.damaged++;
    measure.found(1);
    if (outcome === 'restored') measure.healed(1, { from: 'storage' });
    log.error(
      outcome === 'restored'
        ? 'a blob was damaged in the database; storage had it'
        : 'a blob is damaged; it answers 404 until it is healed or pushed again',
      { digest, key, why },
    );
  }

  /** Takes it out of service, unless its row has changed meanwhile. */
  async function report(row: Row, why: string, tally: Look['tally']): Promise<void> {
    const again = await database.query.get<Row>(AGAIN, row.digest);
    if (again === undefined || again.n !== row.n || again.stored === 0) return;
    failpoint('scrub.damage.before');
    const outcome = await database.run(blobDamaged, { digest: row.digest, n: row.n, found: 'scrub', why }, lane);
    failpoint('scrub.damage.after');
    if (outcome === 'stale') return;
    tally.damaged++;
    measure.found(1);
    if (outcome === 'stored-again') measure.healed(1, { from: 'database' });
    const digest = digestFromBytes(row.digest);
    log.error(
      outcome === 'stored-again'
        ? 'a stored blob is damaged; the database has it, so it is stored again'
        : 'a stored blob is damaged; it answers 404 until it is healed or pushed again',
      { digest, key: blobKey(digest, row.n), why },
    );
  }

  /** Storage could not read this blob. Why nothing can be done for a moment; undefined: go on without it. */
  async function troubleWith(row: Row, error: Error): Promise<string | undefined> {
    // Not a word of storage: a mistake, or the database is away.
    if (error instanceof FaultError && error.code === 'bug') throw error;
    const key = blobKey(digestFromBytes(row.digest), row.n);
    const tries = failing?.key === key ? failing.tries + 1 : 1;
    failing = { key, tries };
    open = undefined;
    try {
      await storage.ping();
    } catch (away) {
      failing = undefined;
      return `storage does not answer: ${(away as Error).message}`;
    }
    if (tries < TRIES) return `${key} cannot be read: ${error.message}`;
    failing = undefined;
    log.error('a stored blob cannot be read though storage answers; it is looked at again in the next round', {
      key,
      error,
    });
    return undefined;
  }

  return {
    step(signal, options = {}) {
      const done = queue.then(() => step(signal, options));
      queue = done.catch(() => {});
      return done;
    },
  };
}

function isDue({ round, begunAt }: { round: number; begunAt: number }, now: number, every: number): boolean {
  // A beginning in the future is one before the clock was set back.
  return round === 0 || now - begunAt >= every || begunAt - now > every;
}

/** The job that scrubs by itself: looks once a minute whether a round is due, and then works to its end. */
export function scrubJob(
  scrub: Scrubber,
  clock: Clock,
  progress: () => Promise<{ done: number; total: number }>,
): Job<undefined> {
  return {
    type: 'scrub',
    everyMilliseconds: TURN_MILLISECONDS,
    parse: () => undefined,
    concurrency: 1,
    maxAttempts: 1,
    leaseSeconds: 60,
    run: async (context) => {
      for (let steps = 0; !context.signal.aborted; steps++) {
        const { more, waits } = await scrub.step(context.signal);
        if (!more || waits === BUSY) return;
        if (waits !== undefined) await clock.sleep(PAUSE, context.signal).catch(() => {});
        if (steps % 16 !== 15) continue;
        const { done, total } = await progress();
        await context.progress(done, total);
      }
    },
  };
}
