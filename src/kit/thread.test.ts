import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { startThread } from './thread.ts';

const run = promisify(execFile);
const ECHO = "import { parentPort, workerData } from 'node:worker_threads'; parentPort.postMessage(workerData.text);";

test('a thread of the source gets its data and is found by its name', async () => {
  const echo = startThread(new URL(`data:text/javascript,${encodeURIComponent(ECHO)}`), { text: 'hello' });
  assert.deepEqual(await once(echo, 'message'), ['hello']);
  const reader = startThread('reader', { path: '/nonexistent/a.db', sidePath: '/nonexistent/b.db' });
  reader.postMessage({ kind: 'read', id: 5, text: 'select 1', values: [] });
  const [answer] = await once(reader, 'message');
  assert.equal(answer.id, 5);
  assert.equal(answer.error.code, 'unavailable');
  await reader.terminate();
});

test('a thread of the bundle lies beside it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longshore-thread-'));
  try {
    const module = JSON.stringify(join(import.meta.dirname, 'thread.ts'));
    await build({
      stdin: {
        contents: `import { startThread } from ${module};
          startThread('reader', { text: 'from the bundle' }).on('message', (text) => console.log(text));`,
        resolveDir: folder,
      },
      bundle: true,
      format: 'esm',
      platform: 'node',
      outfile: join(folder, 'main.js'),
      logLevel: 'silent',
    });
    await writeFile(join(folder, 'package.json'), '{"type":"module"}');
    await writeFile(join(folder, 'reader.js'), ECHO);
    const { stdout } = await run(process.execPath, [join(folder, 'main.js')]);
    assert.equal(stdout.trim(), 'from the bundle');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
