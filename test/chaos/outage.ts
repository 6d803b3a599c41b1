/** What the tests of outages share: mounts, where this machine allows them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { temporaryFolder } from '../support/temp.ts';
import { findTool, leftOut } from '../support/tools.ts';

/** Mounts, and gives what unmounts again (once). */
export type Mount = (type: string, at: string, options: string) => () => void;

const mount: Mount = (type, at, options) => {
  execFileSync('mount', ['-t', type, '-o', options, 'longshore-test', at]);
  let mounted = true;
  const unmount = (): void => {
    if (mounted) spawnSync('umount', ['-l', at]);
    mounted = false;
    process.off('exit', unmount);
  };
  process.on('exit', unmount);
  return unmount;
};

function mayMount(): boolean {
  if (process.getuid?.() !== 0 || findTool('mount') === undefined) return false;
  try {
    mount('tmpfs', temporaryFolder('may-mount'), 'size=1m')();
    return true;
  } catch {
    return false;
  }
}

/** Registers tests that mount. Where that is not allowed, as `withTools` does where a program is missing. */
export function withMounts(what: string, register: (mount: Mount) => void): void {
  if (mayMount()) register(mount);
  else if (process.env.LONGSHORE_TEST_ALL === '1') {
    test(`${what}: mounting is allowed`, () => {
      throw new Error(`${what}: needs root and the right to mount`);
    });
  } else leftOut(`${what}: needs root and the right to mount`);
}
