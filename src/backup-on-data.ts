/** A backup for the command line: asked of the server that has the data folder, else made on the installation itself. */
import { resolve } from 'node:path';
import type { Configuration } from './configuration.ts';
import type { BackupProgress, BackupResult } from './maintenance/backup.ts';
import type { BackupState } from './served-backups.ts';
import { AdminError, askAdmin } from './server/admin.ts';

/** How far it is. */
export type MadeProgress = BackupProgress;

/** How it is made. An abort ends only one that no server makes. */
export interface MakeOptions {
  readonly signal: AbortSignal;
  onProgress(progress: MadeProgress): void;
}

/** Makes it, wherever that has to be. AdminError, AddressError, FaultError. */
export async function makeBackupOf(config: Configuration, to: string, options: MakeOptions): Promise<BackupResult> {
  const asked = await throughServer(config, to, options);
  if (asked !== undefined) return asked;
  // Loaded only where it is needed: with a server running, this is a small program.
  const { backUpDirectly, openingOf } = await import('./backing-up.ts');
  return backUpDirectly(openingOf(config), to, options);
}

async function throughServer(
  config: Configuration,
  to: string,
  { onProgress }: MakeOptions,
): Promise<BackupResult | undefined> {
  const data = resolve(config.data);
  const begun = await askAdmin(data, 'backup.start', { to });
  if (begun === undefined) return undefined;
  const { id } = begun.result as BackupState;
  for (;;) {
    const asked = await askAdmin(data, 'backup.state', undefined);
    const state = asked?.result as BackupState | null | undefined;
    if (state === undefined || state === null || state.id !== id)
      throw new AdminError('The server has stopped meanwhile: there is no backup.');
    if (state.progress !== undefined) onProgress(state.progress);
    if (state.failed !== undefined) throw new AdminError(`The backup failed: ${state.failed}`);
    if (state.result !== undefined) return state.result;
  }
}
