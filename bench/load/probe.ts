/** Paced GETs beside other load: what a puller feels. Sent on time whether or not the one before is answered. */
import { setPriority } from 'node:os';
import { ACCEPT } from '../bytes.ts';
import { openClient } from '../client.ts';
import { percentile } from '../stats.ts';
import type { ProbeTask, Work } from './task.ts';

/** So many may wait at once; more are not sent and count as errors. */
const MOST_WAITING = 256;

export function prepareProbe(task: ProbeTask): Work {
  try {
    // The measuring instrument must not wait for a core behind the load's own process.
    setPriority(-10);
  } catch {
    // Not the administrator: then its own waits are in the figures.
  }
  let finish = (): void => {};
  return {
    run: () =>
      new Promise((done) => {
        const client = openClient(task.url, { ...task, connections: MOST_WAITING });
        const latencies: number[] = [];
        let waiting = 0;
        let errors = 0;
        const started = performance.now();
        const timer = setInterval(() => {
          if (waiting >= MOST_WAITING) {
            errors++;
            return;
          }
          waiting++;
          const from = performance.now();
          client
            .ask('GET', task.path, { headers: { accept: ACCEPT } })
            .then(() => latencies.push(performance.now() - from))
            .catch(() => errors++)
            .finally(() => waiting--);
        }, task.every);
        finish = () => {
          clearInterval(timer);
          client.close();
          done({
            seconds: (performance.now() - started) / 1000,
            count: latencies.length,
            bytes: 0,
            p50: percentile(latencies, 0.5),
            p99: percentile(latencies, 0.99),
            worst: percentile(latencies, 1),
            errors,
          });
        };
      }),
    stop: () => finish(),
  };
}
