/**
 * The load's process: gets one task from its parent, prepares it, says `ready`, works when told `go`, answers with
 * what was done, and ends. A load of its own process takes nothing from the server's or the measurer's loop.
 */
import { prepareAborts } from './load/aborts.ts';
import { prepareBig } from './load/big.ts';
import { prepareProbe } from './load/probe.ts';
import { preparePull } from './load/pull.ts';
import { prepareImages, preparePush } from './load/push.ts';
import { prepareRequests } from './load/requests.ts';
import type { Task, Work } from './load/task.ts';
import { prepareTraffic } from './load/traffic.ts';

/** What the parent says. */
export type ToDriver = { readonly task: Task } | 'go' | 'stop';

function prepare(task: Task): Work {
  switch (task.kind) {
    case 'push':
      return preparePush(task);
    case 'big':
      return prepareBig(task);
    case 'images':
      return prepareImages(task);
    case 'probe':
      return prepareProbe(task);
    case 'requests':
      return prepareRequests(task);
    case 'pull':
      return preparePull(task);
    case 'aborts':
      return prepareAborts(task);
    case 'traffic':
      return prepareTraffic(task);
  }
}

let work: Work | undefined;
const answer = (message: object): void => void process.send?.(message);
const failed = (error: unknown): void => answer({ error: error instanceof Error ? error.message : String(error) });

process.on('disconnect', () => process.exit());
process.on('uncaughtException', failed);
process.on('message', (message: ToDriver) => {
  if (message === 'go') {
    work?.run().then((done) => answer({ done }), failed);
  } else if (message === 'stop') {
    work?.stop?.();
  } else {
    try {
      work = prepare(message.task);
      answer({ ready: true });
    } catch (error) {
      failed(error);
    }
  }
});
