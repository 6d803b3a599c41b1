/** The backups of a running server, as its admin socket begins them and tells of them. */
import type { BackingUp } from './backing-up.ts';
import type { BackupProgress, BackupResult } from './maintenance/backup.ts';
import { FaultError } from './oci/error.ts';
import type { AdminCommands } from './server/admin.ts';

/** How long whoever asks how a backup stands waits for news. */
const ANSWER_MILLISECONDS = 300;

/** How the backup of a running server stands. */
export interface BackupState {
  readonly id: number;
  readonly progress: BackupProgress | undefined;
  readonly result?: BackupResult;
  /** Why it failed. */
  readonly failed?: string;
}

/** The backups of a running server. */
export interface ServedBackups {
  readonly commands: AdminCommands;
  /** Breaks off what runs, and waits for it. */
  close(): Promise<void>;
}

/** What the admin socket does: `backup.start` begins one, `backup.state` tells how it stands. One at a time. */
export function servedBackups(parts: BackingUp): ServedBackups {
  let state: BackupState | undefined;
  let running: Promise<void> | undefined;
  const aborted = new AbortController();
  const start = async (to: string): Promise<BackupState> => {
    // Loaded when first asked: few starts of a server ever need it.
    const { backUp, settingsOf } = await import('./backing-up.ts');
    settingsOf(parts, to);
    if (running !== undefined) throw refused('A backup is under way already.');
    const id = (state?.id ?? 0) + 1;
    state = { id, progress: undefined };
    const onProgress = (progress: BackupProgress): void => {
      state = { id, progress };
    };
    running = backUp(parts, to, { signal: aborted.signal, onProgress })
      .then(
        (result) => {
          state = { id, progress: state?.progress, result };
          parts.log.info('a backup was made', { id: result.id, blobs: result.blobs, copied: result.copied });
        },
        (error: Error) => {
          state = { id, progress: state?.progress, failed: error.message };
          parts.log.error('a backup failed', { error });
        },
      )
      .finally(() => {
        running = undefined;
      });
    return state;
  };
  return {
    commands: {
      'backup.start': async (args) => {
        const { to } = (args ?? {}) as { to?: unknown };
        if (typeof to !== 'string') throw refused('A place is missing.');
        return start(to);
      },
      // Answers when it has ended, or in a moment.
      'backup.state': async () => {
        await Promise.race([running, parts.clock.sleep(ANSWER_MILLISECONDS)]);
        return state ?? null;
      },
    },
    async close() {
      aborted.abort(new FaultError('unavailable', 'The server stops.'));
      await running;
    },
  };
}

function refused(message: string): Error {
  return Object.assign(new Error(message), { status: 400 });
}
