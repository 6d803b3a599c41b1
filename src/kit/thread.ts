/**
 * The one place that starts threads. It knows the three ways in which the program lies on a machine: its source, the
 * bundles in one folder, and a single executable whose bundles are assets.
 */
import { getAsset, isSea } from 'node:sea';
import { type ResourceLimits, Worker } from 'node:worker_threads';

/** The entries of the threads: each is `src/<name>.ts`, `<name>.js` beside the main bundle, or the asset `<name>.js`. */
export const THREADS = ['writer', 'reader', 'passwords', 'hashes'] as const;

/** One of `THREADS`. */
export type ThreadName = (typeof THREADS)[number];

const LIMITS: ResourceLimits = { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 4, stackSizeMb: 4 };

/**
 * Starts a thread, which gets `data` as its `workerData`. `entry`: a name, or in tests the address of a module of
 * their own. A thread that dies tells its `error` and `exit` listeners; whoever starts it listens to both.
 */
export function startThread(entry: ThreadName | URL, data: unknown, limits: ResourceLimits = LIMITS): Worker {
  const options = { workerData: data, resourceLimits: limits, name: entry instanceof URL ? 'thread' : entry };
  if (entry instanceof URL) return new Worker(entry, options);
  if (isSea()) return new Worker(getAsset(`${entry}.js`, 'utf8'), { ...options, eval: true });
  const here = import.meta.url;
  return new Worker(new URL(here.endsWith('.ts') ? `../${entry}.ts` : `./${entry}.js`, here), options);
}
