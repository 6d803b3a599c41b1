/**
 * Faults planted into a recorded run: what a program that forgets one sync, or does things in another order, would
 * have left behind. The harness has to see each of them.
 */
import { join } from 'node:path';
import type { Recording } from './record.ts';
import type { TraceEvent } from './trace.ts';

/** The events with a fault in them. */
export interface Planted {
  readonly events: readonly TraceEvent[];
  /** Of what is no longer sure: files and folders. Empty where there was nothing to plant the fault in. */
  readonly forgotten: ReadonlySet<string>;
  /** Before this event all is as it was. */
  readonly first: number;
}

/** What is planted, and what is forgotten with it. */
export interface Fault {
  readonly name: string;
  plant(recording: Recording): Planted;
}

function withoutSyncs(name: string, forgotten: (path: string, recording: Recording) => boolean): Fault {
  return without(name, (event, recording) => event.kind === 'sync' && forgotten(event.path, recording));
}

function without(name: string, drops: (event: TraceEvent, recording: Recording, at: number) => boolean): Fault {
  return {
    name,
    plant(recording) {
      const dropped = new Set(recording.events.filter((event, at) => drops(event, recording, at)));
      const [earliest] = dropped;
      return {
        events: recording.events.filter((event) => !dropped.has(event)),
        forgotten: new Set([...dropped].map((event) => ('path' in event ? event.path : ''))),
        first: earliest === undefined ? 0 : recording.events.indexOf(earliest),
      };
    },
  };
}

const below =
  (folder: string) =>
  (path: string, { data }: Recording) =>
    path.startsWith(`${join(data, folder)}/`);
const isTemporary = (path: string): boolean => path.endsWith('.tmp');
const isShard = (path: string): boolean => /\/blobs\/sha256\/[0-9a-f]{2}$/.test(path);
const inUploads = below('storage/uploads');
const inRecords = (path: string): boolean => /\/records(\/|$)/.test(path);

/** A descriptor that no recording has. */
const OF_ITS_OWN = 1_000_000;

/** The bytes of a blob are synced only once its link is made. */
const linkedFirst: Fault = {
  name: 'a blob is linked before its bytes are synced',
  plant({ events }) {
    const moved = [...events];
    const forgotten = new Set<string>();
    let first = events.length;
    for (const link of events) {
      if (link.kind !== 'link') continue;
      const sync = moved.findLast(
        (event): event is Extract<TraceEvent, { kind: 'sync' }> =>
          event.kind === 'sync' && event.path === link.path && event.end < link.begin,
      );
      if (sync === undefined) continue;
      first = Math.min(first, moved.indexOf(sync));
      moved.splice(moved.indexOf(sync), 1);
      const at = { begin: link.end + 0.1, end: link.end + 0.1 };
      const open = { ...at, kind: 'open', fd: OF_ITS_OWN, path: link.path, create: false, truncate: false } as const;
      const closed = { ...at, kind: 'close', fd: OF_ITS_OWN } as const;
      moved.splice(moved.indexOf(link) + 1, 0, open, { ...sync, ...at, fd: OF_ITS_OWN }, closed);
      forgotten.add(link.path);
    }
    return { events: moved, forgotten, first };
  },
};

/** The last name that was made or removed before a folder's sync is one that the collector deleted. */
const forgottenDeletes: Fault = without(
  'the folder is not synced after the collector deleted bytes',
  (event, { events }, at) => {
    if (event.kind !== 'sync' || !isShard(event.path)) return false;
    const last = events.slice(0, at).findLast(({ kind }) => kind === 'unlink' || kind === 'link' || kind === 'rename');
    return last?.kind === 'unlink' && last.path.startsWith(`${event.path}/`);
  },
);

/** All that the harness must see. */
export const FAULTS: readonly Fault[] = [
  withoutSyncs('the file of a blob is not synced', (path, at) => inUploads(path, at) && !isTemporary(path)),
  withoutSyncs('the folder of a blob is not synced', isShard),
  withoutSyncs('the folder of shards is not synced', (path) => path.endsWith('/blobs/sha256')),
  withoutSyncs('spilled bytes and records are not synced', isTemporary),
  withoutSyncs('the folders of records are not synced', inRecords),
  withoutSyncs('the write-ahead log is not synced', (path) => path.endsWith('/longshore.db-wal')),
  withoutSyncs('the database is not synced at a checkpoint', (path) => path.endsWith('/longshore.db')),
  withoutSyncs('the data folder is not synced', (path, { data }) => path === data),
  withoutSyncs('the folders above the data folder are not synced', (path, { data }) => data.startsWith(`${path}/`)),
  linkedFirst,
  forgottenDeletes,
];
