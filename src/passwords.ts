/** Entry of the thread that hashes passwords, and of its bundle. Nothing else runs in it. */
import { parentPort } from 'node:worker_threads';
import { servePasswords } from './access/password-thread.ts';

if (parentPort === null) throw new Error('This is the entry of a thread.');
servePasswords(parentPort);
