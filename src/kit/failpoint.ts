/**
 * Named places where a crash is interesting (one before and one after each sync, rename, commit and answer). In
 * production `failpoint` is an empty call; the kill tests arm it so that the process dies at exactly one of them.
 */

/** Every name that may be passed; a run in which one never fired is a failed run. */
export const FAILPOINTS = [
  'upload.create.before',
  'upload.create.after',
  'upload.begin.before',
  'upload.begin.after',
  'upload.advance.before',
  'upload.advance.after',
  'commit.sync.before',
  'commit.sync.after',
  'piece.put.before',
  'piece.put.after',
  'piece.merge.before',
  'piece.merge.after',
  'join.store.before',
  'join.begin.after',
  'join.parts.after',
  'join.store.after',
  'objects.delete.before',
  'objects.delete.after',
  'commit.reserve.before',
  'commit.reserve.after',
  'fs.link.before',
  'fs.link.after',
  'fs.syncdir.before',
  'fs.syncdir.after',
  'commit.link.before',
  'commit.link.after',
  'commit.discard.before',
  'commit.discard.after',
  'put.commit.before',
  'put.commit.after',
  'spill.read.after',
  'spill.put.before',
  'spill.put.after',
  'spill.commit.before',
  'spill.commit.after',
  'manifest.commit.before',
  'manifest.commit.after',
  'mount.commit.before',
  'mount.commit.after',
  'delete.commit.before',
  'delete.commit.after',
  'restore.commit.before',
  'restore.commit.after',
  'head.touch.before',
  'head.touch.after',
  'writer.commit.before',
  'writer.commit.after',
  'answer.before',
  'answer.after',
  'mirror.put.before',
  'mirror.put.after',
  'expire.commit.before',
  'expire.commit.after',
  'gc.review.before',
  'gc.review.after',
  'gc.purge.before',
  'gc.purge.after',
  'gc.journal.before',
  'gc.journal.after',
  'gc.delete.before',
  'gc.delete.after',
  'gc.confirm.before',
  'gc.confirm.after',
  'scrub.damage.before',
  'scrub.damage.after',
  'scrub.advance.before',
  'scrub.advance.after',
  'heal.live.before',
  'heal.live.after',
  'reindex.begin.after',
  'reindex.shard.after',
  'reindex.manifests.after',
  'reindex.tags.after',
  'reindex.end.before',
  'backup.snapshot.after',
  'backup.copy.after',
  'backup.point.before',
  'backup.point.after',
  'recover.empty.before',
  'recover.empty.after',
  'recover.load.after',
  'recover.epoch.after',
  'recover.journal.after',
  'recover.copy.after',
  'recover.end.before',
  'recover.end.after',
  'older.begin.after',
  'older.epoch.after',
  'older.mark.after',
  'older.journal.after',
  'older.blobs.after',
  'older.merge.after',
  'older.bury.after',
  'older.end.before',
] as const;

/** One of the names above. */
export type Failpoint = (typeof FAILPOINTS)[number];

let hook: ((name: Failpoint) => void) | undefined;

/** Does nothing unless armed. Synchronous: when the hook kills the process, nothing after it runs. */
export function failpoint(name: Failpoint): void {
  hook?.(name);
}

/** Arms every failpoint of this thread with `action`; undefined disarms. Only tests and `main` under a test do this. */
export function armFailpoints(action: ((name: Failpoint) => void) | undefined): void {
  hook = action;
}

/** An action that kills this process with SIGKILL at the `count`-th time (from 1) that `name` is reached. */
export function killAt(name: Failpoint, count: number): (reached: Failpoint) => void {
  let left = count;
  return (reached) => {
    if (reached === name && --left <= 0) process.kill(process.pid, 'SIGKILL');
  };
}
