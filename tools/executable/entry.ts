/**
 * The entry of the single-file executable. What `bin/longshore` sets before Node starts cannot be set by a program that
 * runs already, so it starts itself once more with it; signals and the process id stay the same.
 */
const SETTINGS = { UV_THREADPOOL_SIZE: '16', MALLOC_ARENA_MAX: '1' };

const missing = Object.entries(SETTINGS).filter(([name]) => process.env[name] === undefined);
if (missing.length > 0 && process.execve !== undefined) {
  process.execve(process.execPath, [process.argv0, ...process.argv.slice(2)], {
    ...process.env,
    ...Object.fromEntries(missing),
  });
}
await import('../../src/main.ts');
