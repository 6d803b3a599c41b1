/** One large blob, streamed: its bytes are a block again and again with a name in front, so that none is held whole. */
import { createHash } from 'node:crypto';
import { Agent, request } from 'node:http';
import { Readable } from 'node:stream';
import { blobOf } from '../bytes.ts';
import { openClient } from '../client.ts';
import type { BigTask, Work } from './task.ts';

const BLOCK = 1024 * 1024;
/** No push takes longer, milliseconds. */
const PATIENCE = 600_000;

function* chunksOf(size: number, name: string): Generator<Buffer> {
  const first = createHash('sha256').update(name).digest();
  yield first;
  const block = blobOf(BLOCK, 'big').parts[0];
  for (let left = size - first.length; left > 0; left -= block.length) yield block.subarray(0, left);
}

/** The digest of a large blob; hashes all of it. */
export function bigDigest(size: number, name: string): string {
  const hash = createHash('sha256');
  for (const chunk of chunksOf(size, name)) hash.update(chunk);
  return `sha256:${hash.digest('hex')}`;
}

function put(target: URL, size: number, body: Readable): Promise<void> {
  return new Promise((done, fail) => {
    const agent = new Agent();
    const headers = { 'content-type': 'application/octet-stream', 'content-length': size };
    const asked = request(target, { agent, method: 'PUT', headers }, (answer) => {
      answer.resume();
      answer.on('error', fail);
      answer.on('end', () => {
        agent.destroy();
        if (answer.statusCode === 201) done();
        else fail(new Error(`the PUT answered ${answer.statusCode}`));
      });
    });
    asked.setTimeout(PATIENCE, () => asked.destroy(new Error('the PUT took too long')));
    asked.on('error', fail);
    body.pipe(asked);
  });
}

/** The digest is known before the clock runs. */
export function prepareBig(task: BigTask): Work {
  const digest = task.digest ?? bigDigest(task.size, task.name);
  return {
    async run() {
      const started = performance.now();
      const client = openClient(task.url, task);
      const begun = await client.ask('POST', `/v2/${task.repository}/blobs/uploads/`, { expect: [202] });
      client.close();
      const target = new URL(begun.headers.location ?? '', task.url);
      target.searchParams.set('digest', digest);
      await put(
        target,
        task.size,
        Readable.from(chunksOf(task.size, task.name), { objectMode: false, highWaterMark: BLOCK }),
      );
      const seconds = (performance.now() - started) / 1000;
      const none = Number.NaN;
      return { seconds, count: 1, bytes: task.size, p50: none, p99: none, worst: none, errors: 0 };
    },
  };
}
