/** Clients that push small images and pull them back, at a pace of their own, until told to stop. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ACCEPT, blobOf, imageOf } from '../bytes.ts';
import { openClient, pushBlob, pushManifest } from '../client.ts';
import { percentile } from '../stats.ts';
import type { TrafficTask, Work } from './task.ts';

export function prepareTraffic(task: TrafficTask): Work {
  let going = true;
  return {
    async run() {
      const [pushes, pulls]: [number[], number[]] = [[], []];
      const started = performance.now();
      const oneClient = async (number: number): Promise<void> => {
        const client = openClient(task.url, task);
        const repository = `bench/traffic-${number}`;
        try {
          for (let index = 0; going; index++) {
            const from = performance.now();
            const name = `${task.name}/${number}/${index}`;
            const blobs = [
              blobOf(10_240, `${name}/a`),
              blobOf(10_240, `${name}/b`),
              blobOf(1_536, `${name}/c`),
            ] as const;
            const manifest = imageOf(blobs[2], blobs.slice(0, 2), name);
            const pushing = performance.now();
            for (const blob of blobs) await pushBlob(client, repository, blob);
            await pushManifest(client, repository, 'latest', manifest);
            const pulling = performance.now();
            pushes.push(pulling - pushing);
            await client.ask('GET', `/v2/${repository}/manifests/latest`, { headers: { accept: ACCEPT } });
            for (const { digest } of blobs) await client.ask('GET', `/v2/${repository}/blobs/${digest}`);
            pulls.push(performance.now() - pulling);
            await sleep(Math.max(0, task.every - (performance.now() - from)));
          }
        } finally {
          client.close();
        }
      };
      await Promise.all(Array.from({ length: task.clients }, (_, number) => oneClient(number)));
      return {
        seconds: (performance.now() - started) / 1000,
        count: pushes.length,
        bytes: 0,
        p50: percentile(pushes, 0.5),
        p99: percentile(pushes, 0.99),
        worst: percentile(pushes, 1),
        errors: 0,
        pull: { p50: percentile(pulls, 0.5), p99: percentile(pulls, 0.99) },
      };
    },
    stop: () => {
      going = false;
    },
  };
}
