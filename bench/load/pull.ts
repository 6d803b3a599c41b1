/** Whole blobs by node:http, their bytes counted and dropped. Used where curl is not there. */
import { readFileSync } from 'node:fs';
import { get as plain } from 'node:http';
import { get as encrypted } from 'node:https';
import type { PullTask, Work } from './task.ts';

export function preparePull(task: PullTask): Work {
  const ca = task.ca === undefined ? {} : { ca: readFileSync(task.ca) };
  const pull = (path: string): Promise<number> =>
    new Promise((done, fail) => {
      const url = new URL(path, task.url);
      const asked = (url.protocol === 'https:' ? encrypted : plain)(url, { agent: false, ...ca }, (answer) => {
        let bytes = 0;
        answer.on('data', (chunk: Buffer) => (bytes += chunk.length));
        answer.on('error', fail);
        answer.on('end', () => {
          const whole = answer.statusCode === 200 && bytes === Number(answer.headers['content-length'] ?? bytes);
          if (whole) done(bytes);
          else fail(new Error(`GET ${path} answered ${answer.statusCode} and ${bytes} bytes`));
        });
      });
      asked.setTimeout(60_000, () => asked.destroy(new Error('a pull stood still for 60 s')));
      asked.on('error', fail);
    });
  return {
    async run() {
      const started = performance.now();
      let bytes = 0;
      const oneClient = async (path: string): Promise<void> => {
        for (let index = 0; index < task.each; index++) {
          // In two steps: `bytes += await …` would add to what `bytes` was before the wait.
          const received = await pull(path);
          bytes += received;
        }
      };
      await Promise.all(task.paths.map(oneClient));
      const seconds = (performance.now() - started) / 1000;
      const count = task.paths.length * task.each;
      return { seconds, count, bytes, p50: Number.NaN, p99: Number.NaN, worst: Number.NaN, errors: 0 };
    },
  };
}
