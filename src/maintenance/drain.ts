/**
 * Brings all that only the database has to storage, now: inline bytes, and the mirror of every repository. Then
 * `reindex` recovers everything. It works in steps of seconds, so that whoever asks for it can say how far it is.
 */
import type { Database } from '../database/database.ts';
import type { Log, Metrics } from '../kit/log.ts';
import type { RepositoryName } from '../oci/names.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { mirrorRepository } from './mirror.ts';
import { MIRROR_PREFIX, repositoryOfTable } from './mirror-format.ts';
import { spill } from './spill.ts';

/** Blobs that one step moves, repositories that one step writes, and how many side by side. */
const BLOBS = 500;
const REPOSITORIES = 20;
const AT_ONCE = 4;
/** What a repository's name may begin with: mirrors of repositories that are gone are looked for one by one of these. */
const FIRST = [...'abcdefghijklmnopqrstuvwxyz0123456789'];

/** What storage does not have yet. */
export interface Lag {
  /** Blobs whose bytes are in the database only. */
  readonly blobs: number;
  /** Repositories with changes that wait to be mirrored. */
  readonly repositories: number;
}

/** Where a drain is. `after`: the last repository, or the last letter, that is done. */
export interface DrainPlace {
  readonly stage: 'spill' | 'mirror' | 'strays';
  readonly after?: string;
}

/** What one step did. */
export interface Drained {
  /** Where to go on; absent at the end. */
  readonly next?: DrainPlace;
  /** Blobs whose bytes it moved. */
  readonly blobs: number;
  /** Repositories that it looked at, and how many of their mirrors it had to write. */
  readonly repositories: number;
  readonly mirrors: number;
  /** Mirrors of repositories that are gone, which it removed. */
  readonly removed: number;
  /** What could not be done, for people. */
  readonly failed: readonly string[];
}

/** What a drain is made of. */
export interface DrainParts {
  readonly database: Database;
  readonly storage: BlobStorage;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** Drains. */
export interface Drain {
  lag(): Promise<Lag>;
  /** The step at this place; the first is `{ stage: 'spill' }`. */
  step(place: DrainPlace, signal: AbortSignal): Promise<Drained>;
}

/** How many repositories have changes that are not mirrored yet: events that wait, and jobs that wait, run or failed. */
export async function mirrorLag(database: Pick<Database, 'query'>): Promise<number> {
  const row = await database.query.get<{ jobs: number; events: number }>(
    `select (select count(distinct key) from job where type = 'mirror.repository') as jobs,
       (select count(distinct repository_id) from (select repository_id from outbox limit 100000) as bounded) as events`,
  );
  return Number(row?.jobs ?? 0) + Number(row?.events ?? 0);
}

/** The drain of this database into this storage. */
export function drain(parts: DrainParts): Drain {
  const { database, storage, log } = parts;
  const spiller = spill(parts);
  const nothing: Drained = { blobs: 0, repositories: 0, mirrors: 0, removed: 0, failed: [] };

  /** Writes these mirrors; those that failed are said. */
  async function writeMirrors(names: readonly RepositoryName[]): Promise<{ written: number; failed: string[] }> {
    const failed: string[] = [];
    let written = 0;
    const waiting = names.values();
    const worker = async (): Promise<void> => {
      for (const name of waiting) {
        try {
          if (await mirrorRepository(parts, name)) written++;
        } catch (error) {
          log.error('a mirror could not be written', { repository: name, error: error as Error });
          failed.push(`the mirror of ${name}: ${(error as Error).message}`);
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    return { written, failed };
  }

  async function spillStep(signal: AbortSignal): Promise<Drained> {
    const blobs = await spiller.run(BLOBS, signal, { exact: true });
    return { ...nothing, blobs, next: { stage: blobs < BLOBS ? 'mirror' : 'spill' } };
  }

  async function mirrorStep(after: string): Promise<Drained> {
    const rows = await database.query.all<{ name: RepositoryName }>(
      'select name from repository where gone = 0 and shown = 1 and name > ? order by name limit ?',
      after,
      REPOSITORIES,
    );
    const { written, failed } = await writeMirrors(rows.map(({ name }) => name));
    const last = rows[rows.length - 1];
    const next: DrainPlace =
      rows.length < REPOSITORIES || last === undefined ? { stage: 'strays' } : { stage: 'mirror', after: last.name };
    return { ...nothing, repositories: rows.length, mirrors: written, failed, next };
  }

  /** Mirrors under one letter whose repositories are gone: whoever deleted them died, or storage failed meanwhile. */
  async function strayStep(after: string): Promise<Drained> {
    const letter = FIRST[FIRST.indexOf(after) + 1];
    if (letter === undefined) return nothing;
    const stray: RepositoryName[] = [];
    for await (const record of storage.records.list(MIRROR_PREFIX + letter)) {
      const name = repositoryOfTable(record);
      if (name === undefined || name === null) continue;
      const row = await database.query.get<{ id: number }>(
        'select id from repository where gone = 0 and shown = 1 and name = ?',
        name,
      );
      if (row === undefined) stray.push(name);
    }
    const { written, failed } = await writeMirrors(stray);
    const next: { next?: DrainPlace } = letter === FIRST.at(-1) ? {} : { next: { stage: 'strays', after: letter } };
    return { ...nothing, removed: written, failed, ...next };
  }

  return {
    async lag() {
      return { blobs: await spiller.lag(), repositories: await mirrorLag(database) };
    },
    step({ stage, after = '' }, signal) {
      if (stage === 'spill') return spillStep(signal);
      return stage === 'mirror' ? mirrorStep(after) : strayStep(after);
    },
  };
}
