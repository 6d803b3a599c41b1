/**
 * `npm run dev`: the server from source, started anew whenever a source file changes. Flags are handed on to
 * `longshore serve`; without --data it uses ./data/dev, without --listen 127.0.0.1:5000.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { watch } from 'node:fs';
import { dirname, join } from 'node:path';

const root = dirname(import.meta.dirname);
const given = process.argv.slice(2);
const args =
  given.includes('--data') || given.some((one) => one.startsWith('--data='))
    ? given
    : [...given, '--data', join(root, 'data', 'dev')];

let child: ChildProcess | undefined;
let again: NodeJS.Timeout | undefined;
let leaving = false;

function start(): void {
  child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', join(root, 'src', 'main.ts'), 'serve', ...args],
    {
      stdio: 'inherit',
      cwd: root,
    },
  );
  child.once('exit', (code, signal) => {
    child = undefined;
    if (leaving) process.exit(code ?? 0);
    if (signal === null && code !== 0) console.error('longshore: it ended with an error; waiting for a change …');
  });
}

/** Stops what runs (it closes its data folder) and starts the new source. */
function restart(): void {
  const old = child;
  if (old === undefined) {
    start();
    return;
  }
  console.error('longshore: a source file changed; starting anew …');
  const hard = setTimeout(() => old.kill('SIGKILL'), 5_000);
  old.once('exit', () => {
    clearTimeout(hard);
    if (!leaving) start();
  });
  // The second signal tells the server not to wait for transfers.
  old.kill('SIGTERM');
  setTimeout(() => old.kill('SIGTERM'), 200).unref();
}

watch(join(root, 'src'), { recursive: true }, (_event, name) => {
  if (name === null || !name.endsWith('.ts') || /\.(test|bench|contract)\.ts$/.test(name)) return;
  clearTimeout(again);
  again = setTimeout(restart, 150);
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    leaving = true;
    if (child === undefined) process.exit(0);
    child.kill(signal);
  });
}
start();
