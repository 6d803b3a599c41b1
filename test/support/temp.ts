/** Temporary folders of a test process, all removed when it ends, however it ends short of SIGKILL. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const folders = new Set<string>();

process.on('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
});

/** A fresh folder, mode 0700, removed when this process ends. */
export function temporaryFolder(label = 'test'): string {
  const folder = mkdtempSync(join(tmpdir(), `longshore-${label}-`));
  folders.add(folder);
  return folder;
}

/** Removes a folder of `temporaryFolder` now: for tests that would otherwise fill the disk. */
export function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  folders.delete(folder);
}
