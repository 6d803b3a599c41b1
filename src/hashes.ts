/** Entry of the threads that hash what is sent, and of their bundle. Nothing else runs in them. */
import { parentPort, workerData } from 'node:worker_threads';
import { type SharedRing, serveHashes } from './kit/hash-thread.ts';

if (parentPort === null) throw new Error('This is the entry of a thread.');
serveHashes(parentPort, workerData as SharedRing);
