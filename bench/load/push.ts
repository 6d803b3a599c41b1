/** Pushes: large blobs, and small images whole. */
import { type Blob, blobOf, imageOf } from '../bytes.ts';
import { openClient, pushBlob, pushManifest } from '../client.ts';
import { percentile } from '../stats.ts';
import type { Done, ImagesTask, PushTask, Work } from './task.ts';

const now = (): number => performance.now();

function doneOf(started: number, bytes: number, latencies: readonly number[]): Done {
  return {
    seconds: (now() - started) / 1000,
    count: latencies.length,
    bytes,
    p50: percentile(latencies, 0.5),
    p99: percentile(latencies, 0.99),
    worst: percentile(latencies, 1),
    errors: 0,
  };
}

/** Blobs are made and hashed before the clock runs. */
export function preparePush(task: PushTask): Work {
  const blobs: Blob[][] = Array.from({ length: task.clients }, (_, client) =>
    Array.from({ length: task.each }, (_, index) => blobOf(task.size, `${task.name}/${client}/${index}`)),
  );
  return {
    async run() {
      const latencies: number[] = [];
      const started = now();
      const oneClient = async (own: readonly Blob[]): Promise<void> => {
        const client = openClient(task.url, task);
        try {
          for (const blob of own) {
            const from = now();
            await pushBlob(client, task.repository, blob, task.chunk);
            latencies.push(now() - from);
          }
        } finally {
          client.close();
        }
      };
      await Promise.all(blobs.map(oneClient));
      return doneOf(started, latencies.length * task.size, latencies);
    },
  };
}

/** Two layers of 10 KB, a configuration of 1.5 KB and a manifest by a tag of its own: each acknowledged before the next. */
export function prepareImages(task: ImagesTask): Work {
  return {
    async run() {
      const latencies: number[] = [];
      const started = now();
      const until = started + task.seconds * 1000;
      const oneClient = async (_: unknown, number: number): Promise<void> => {
        const client = openClient(task.url, task);
        const repository = `${task.repository}-${number}`;
        try {
          for (let index = 0; now() < until; index++) {
            const name = `${task.name}/${number}/${index}`;
            const layers = [blobOf(10_240, `${name}/a`), blobOf(10_240, `${name}/b`)];
            const config = blobOf(1_536, `${name}/c`);
            const image = imageOf(config, layers, name);
            const from = now();
            for (const blob of [...layers, config]) await pushBlob(client, repository, blob);
            await pushManifest(client, repository, `${task.name}-${index}`, image);
            latencies.push(now() - from);
          }
        } finally {
          client.close();
        }
      };
      await Promise.all(Array.from({ length: task.clients }, oneClient));
      return doneOf(started, latencies.length * 22_016, latencies);
    },
  };
}
