/**
 * The order of system calls behind an acknowledged push, seen by strace: the bytes are written and synced, linked
 * under their name, the folder is synced, and only then is the answer written. Syncs count only when they returned.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { client } from '../support/client.ts';
import { image, piece } from '../support/images.ts';
import { startLongshore } from '../support/server.ts';
import { temporaryFolder } from '../support/temp.ts';
import { withTools } from '../support/tools.ts';

/** One call: when it began and when it had returned, as line numbers of the trace. */
interface Call {
  readonly name: string;
  readonly text: string;
  readonly begin: number;
  readonly end: number;
}

/** Puts `<unfinished ...>` and `<... resumed>` lines together again. */
export function parseTrace(trace: string): Call[] {
  const calls: Call[] = [];
  const unfinished = new Map<string, { text: string; begin: number }>();
  for (const [at, line] of trace.split('\n').entries()) {
    const found = /^(\d+)\s+(?:\d+:\d+:\d+\.\d+\s+)?(.*)$/.exec(line);
    const thread = found?.[1];
    const rest = found?.[2];
    if (thread === undefined || rest === undefined) continue;
    const resumed = /^<\.\.\. (\w+) resumed>(.*)$/.exec(rest);
    if (resumed !== null) {
      const open = unfinished.get(thread);
      unfinished.delete(thread);
      if (open !== undefined) {
        calls.push({ name: resumed[1] ?? '', text: open.text + resumed[2], begin: open.begin, end: at });
      }
      continue;
    }
    const name = /^(\w+)\(/.exec(rest)?.[1];
    if (name === undefined) continue;
    if (rest.endsWith('<unfinished ...>')) unfinished.set(thread, { text: rest.slice(0, -16), begin: at });
    else calls.push({ name, text: rest, begin: at, end: at });
  }
  return calls;
}

const ok = (call: Call): boolean => / = \d+/.test(call.text.slice(-120)) && !/ = -1 /.test(call.text);
const isSync = (call: Call): boolean => (call.name === 'fsync' || call.name === 'fdatasync') && ok(call);

/** The answer that begins with this status, as it was written to a socket. */
function answer(calls: readonly Call[], status: number, after: number): Call {
  const found = calls.find(
    (call) =>
      call.begin > after &&
      ['write', 'writev', 'sendto', 'sendmsg'].includes(call.name) &&
      call.text.includes(`HTTP/1.1 ${status}`),
  );
  assert.ok(found !== undefined, `no answer ${status} after line ${after} of the trace`);
  return found;
}

withTools(['strace'], 'the order of system calls', (strace) => {
  test('write, sync, link, sync of the folder come before the 201 of a large blob; the database sync before every 201', async () => {
    const file = join(temporaryFolder('trace'), 'trace');
    const traced =
      'trace=openat,open,write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync,link,linkat,rename,renameat,renameat2';
    const server = await startLongshore({
      wrapper: [strace, '-D', '-f', '-q', '-y', '-s', '200', '-e', traced, '-o', file],
      config: { log: { access: false } },
    });
    const http = client(server.url);
    const large = piece(randomBytes(1_500_000));
    const hex = large.digest.slice('sha256:'.length);
    assert.equal((await http.pushChunked('trace/app', large, 500_000)).status, 201);
    const small = image({ layers: [large] });
    await http.pushImage('trace/app', small, 'v1');
    http.close();
    await server.stop();
    // With -D the server is our child and strace a stranger, which may still be writing.
    const over = new RegExp(`^${server.pid} .*\\+\\+\\+ exited`, 'm');
    for (let tries = 0; tries < 1_200 && !over.test(readFileSync(file, 'utf8')); tries += 1) await sleep(50);

    const calls = parseTrace(readFileSync(file, 'utf8'));
    const link = calls.find((call) => /^(link|rename)/.test(call.name) && call.text.includes(hex) && ok(call));
    assert.ok(link !== undefined, 'the upload was linked under its digest');
    const source = /"([^"]+)"/.exec(link.text)?.[1] ?? '';
    assert.match(source, /uploads\//);
    const id = source.slice(source.lastIndexOf('/') + 1);
    const writes = calls.filter((call) => /^p?write/.test(call.name) && call.text.includes(id) && ok(call));
    assert.ok(writes.length > 0, 'the bytes were written to the upload');
    const lastWrite = Math.max(...writes.map((call) => call.end));
    const sync = calls.find((call) => isSync(call) && call.text.includes(id) && call.begin > lastWrite);
    assert.ok(sync !== undefined, 'the upload was synced after its last byte');
    assert.ok(sync.end < link.begin, 'synced before it was linked');
    const folder = `/${hex.slice(0, 2)}>`;
    const folderSync = calls.find((call) => isSync(call) && call.text.includes(folder) && call.begin > link.end);
    assert.ok(folderSync !== undefined, 'the folder was synced after the link');
    const created = answer(calls, 201, link.end);
    assert.ok(folderSync.end < created.begin, 'the folder was synced before the answer');
    const isJournal = (call: Call): boolean => isSync(call) && call.text.includes('longshore.db-wal');
    const commit = calls.find((call) => isJournal(call) && call.begin > folderSync.end && call.end < created.begin);
    assert.ok(commit !== undefined, 'the row was durable between the folder and the answer');

    // Two small pushes and a manifest: each 201 has a sync of the database since the answer before it.
    let before = created.end;
    for (const what of ['the configuration', 'the layer', 'the manifest']) {
      const next = answer(calls, 201, before);
      const between = calls.some((call) => isJournal(call) && call.begin > before && call.end < next.begin);
      // The layer is there already: what is pushed again needs no new bytes, but its promise is a row all the same.
      assert.ok(between || what === 'the layer', `${what} was durable before its answer`);
      before = next.end;
    }
  });
});
