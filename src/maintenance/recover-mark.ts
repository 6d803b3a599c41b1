/**
 * The mark in storage by which a database that was put back to an older state is known. Now and then, and before bytes
 * are deleted, the database counts one mark more, and where it stands then is written to storage: `mark/<process>`.
 * A database that stands below what storage has is of an earlier time, or a copy beside which another one went on.
 *
 * Why that is enough. A mark is first committed and then written, and storage is read before the database, so a
 * database that nobody put back never looks older than its marks. A mark is only counted over the very one that was
 * compared with storage, so an older database never catches up. And bytes are only deleted once storage has a mark of
 * the tick in which their keys were taken, or a later one: those keys died at least a tick earlier, so a database that
 * does not know them as dead stands below that mark.
 */
import type { Database } from '../database/database.ts';
import { STANDING, type Standing } from '../database/standing.ts';
import type { Clock } from '../kit/clock.ts';
import { uuidv7 } from '../kit/id.ts';
import { FaultError } from '../oci/error.ts';
import type { BlobStorage, Records } from '../storage/storage.ts';
import { storageMark } from './commands/recover-mark.ts';

const PREFIX = 'mark/';
/** Records of processes that have long ended are removed after this long, milliseconds; one that runs writes its own each tick. */
const KEPT = 30 * 86_400_000;
/** How often a mark is tried again because another process made one. */
const TRIES = 20;

/** A mark as storage has it. */
export interface Mark extends Standing {
  /** Wall milliseconds. */
  readonly at: number;
}

/** A database that is older than its storage. */
export class OlderError extends FaultError {
  constructor(message: string) {
    super('unavailable', message);
  }
}

/** Marks of this process. */
export interface Marker {
  /** Compares with storage. OlderError; FaultError where storage or database does not answer. */
  check(): Promise<void>;
  /** The same, then makes a mark and writes it. */
  make(): Promise<void>;
  /**
   * Compares with storage, and sees to it that storage has a mark of this tick or later. To be asked behind the journal
   * and right before bytes are deleted: who recovers another copy of the database writes its mark first and then reads
   * the journal, so of the two one sees the other.
   */
  beforeDelete(taken: { readonly epoch: number; readonly tick: number }): Promise<void>;
}

/** What marks are made of. */
export interface MarkParts {
  readonly database: Pick<Database, 'query' | 'run'>;
  readonly storage: Pick<BlobStorage, 'records'>;
  readonly clock: Clock;
}

/** The marks of this process: a record of its own in storage, so that no slow process writes over what another one wrote. */
export function openMarker(parts: MarkParts): Marker {
  const { database, clock } = parts;
  const { records } = parts.storage;
  const record = `${PREFIX}${uuidv7(clock.now())}`;
  let cleaned = false;

  async function compare(): Promise<{ standing: Standing; marks: readonly Mark[] }> {
    const marks = await readMarks(records);
    const standing = await standingOf(database);
    const why = whyOlder(standing, marks);
    if (why !== undefined) throw new OlderError(why);
    return { standing, marks };
  }

  async function make(): Promise<void> {
    for (let tried = 0; tried < TRIES; tried++) {
      const { standing } = await compare();
      const next = uuidv7(clock.now());
      const { number, nonce } = standing;
      const made = await database.run(storageMark, { number, nonce, next }, { lane: 'job' });
      if (made === undefined) continue;
      await writeMark(records, record, made, clock.now());
      if (!cleaned) await clean(made);
      cleaned = true;
      return;
    }
    throw new FaultError('unavailable', 'Other processes kept making marks in storage.');
  }

  async function clean(own: Standing): Promise<void> {
    for await (const name of records.list(PREFIX)) {
      const mark = name === record ? undefined : parseMark(await records.get(name));
      if (mark === undefined || mark.at > clock.now() - KEPT || mark.uid !== own.uid) continue;
      if (isBelow(mark, own)) await records.delete(name);
    }
  }

  return {
    check: async () => void (await compare()),
    make,
    async beforeDelete({ epoch, tick }) {
      const { standing, marks } = await compare();
      const known = marks.some((mark) => mark.uid === standing.uid && mark.epoch === epoch && mark.tick >= tick);
      if (!known) await make();
    },
  };
}

/** Refuses a database that is older than its storage. OlderError. */
export async function refuseOlder(parts: Omit<MarkParts, 'clock'>): Promise<void> {
  const marks = await readMarks(parts.storage.records);
  const why = whyOlder(await standingOf(parts.database), marks);
  if (why === undefined) return;
  throw new OlderError(
    `${why} Nothing is served: what was pushed since would be missing, and collected. Stop every server of it and run "longshore recover", or put the newer database back.`,
  );
}

/** Whether storage knows a later state, for a summary. */
export async function isOlder(parts: Omit<MarkParts, 'clock'>): Promise<boolean> {
  const marks = await readMarks(parts.storage.records);
  return whyOlder(await standingOf(parts.database), marks) !== undefined;
}

/** The highest epoch that storage has seen, whoever's it was; 0 where there is none. */
export async function highestEpoch(records: Records): Promise<number> {
  return (await readMarks(records)).reduce((most, { epoch }) => Math.max(most, epoch), 0);
}

/** A mark that no comparison comes before: the database has just been given an epoch of its own. */
export async function markAnew({ database, storage, clock }: MarkParts): Promise<void> {
  const { number, nonce } = await standingOf(database);
  const made = await database.run(storageMark, { number, nonce, next: uuidv7(clock.now()) }, { lane: 'job' });
  if (made === undefined) throw new FaultError('unavailable', 'Another process works on this database.');
  await writeMark(storage.records, `${PREFIX}${uuidv7(clock.now())}`, made, clock.now());
}

async function standingOf({ query }: Pick<Database, 'query'>): Promise<Standing> {
  const standing = await query.get<Standing>(STANDING);
  if (standing === undefined) throw new FaultError('corrupt', 'The database does not say which installation it is of.');
  return standing;
}

function isBelow(one: Standing, other: Standing): boolean {
  return one.epoch < other.epoch || (one.epoch === other.epoch && one.number < other.number);
}

function whyOlder(standing: Standing, marks: readonly Mark[]): string | undefined {
  for (const mark of marks) {
    const when = new Date(mark.at).toISOString();
    if (mark.uid !== standing.uid) {
      // One that was rebuilt from this storage, or whose backup was restored onto it, has taken it over.
      if (mark.epoch <= standing.epoch || standing.number === 0) continue;
      return `The storage belongs to a newer database since ${when} or before: this one is of an earlier time.`;
    }
    if (mark.epoch < standing.epoch) continue;
    const isLater = mark.epoch > standing.epoch || mark.number > standing.number || mark.tick > standing.tick;
    const isOther = mark.number === standing.number && mark.nonce !== standing.nonce;
    if (!isLater && !isOther) continue;
    return `The database is older than its storage, which knows of it at ${when}: mark ${mark.epoch}.${mark.number}, tick ${mark.tick}; now it stands at mark ${standing.epoch}.${standing.number}, tick ${standing.tick}.`;
  }
  return undefined;
}

async function readMarks(records: Records): Promise<Mark[]> {
  const marks: Mark[] = [];
  for await (const name of records.list(PREFIX)) {
    const mark = parseMark(await records.get(name));
    if (mark !== undefined) marks.push(mark);
  }
  return marks;
}

/** Undefined where it is not there, or is no mark. */
function parseMark(bytes: Uint8Array | undefined): Mark | undefined {
  if (bytes === undefined || bytes.length > 4096) return undefined;
  try {
    const { uid, epoch, tick, number, nonce, at } = JSON.parse(Buffer.from(bytes).toString('utf8')) as Partial<Mark>;
    if (typeof uid !== 'string' || typeof nonce !== 'string') return undefined;
    for (const value of [epoch, tick, number, at]) if (!Number.isSafeInteger(value) || value! < 0) return undefined;
    if (at! > 8.64e15) return undefined;
    return { uid, epoch: epoch!, tick: tick!, number: number!, nonce, at: at! };
  } catch {
    return undefined;
  }
}

async function writeMark(records: Records, record: string, standing: Standing, at: number): Promise<void> {
  await records.put(record, Buffer.from(JSON.stringify({ ...standing, at } satisfies Mark)));
}
