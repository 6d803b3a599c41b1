/** Where jobs are put. A request is stored when its promise resolves. */
import type { Database } from '../database/database.ts';
import { FaultError } from '../oci/error.ts';
import { jobEnqueue, type StoredRequest } from './commands/job-enqueue.ts';
import type { JobQueue, JobRequest } from './job.ts';

/** Largest payload, as JSON, in UTF-16 units. */
export const MAX_PAYLOAD = 65_536;
const MAX_NAME = 512;

/** The request as it is stored. FaultError `bug` where it is beyond its bounds or no plain data. */
export function storedRequest({ type, payload, key, runAt }: JobRequest): StoredRequest {
  const text = JSON.stringify(payload ?? null);
  if (text === undefined || text.length > MAX_PAYLOAD) {
    throw new FaultError('bug', `The payload of a job "${type}" is too large, or cannot be written as JSON.`);
  }
  if (type === '' || type.length > MAX_NAME || (key !== undefined && key.length > MAX_NAME)) {
    throw new FaultError('bug', `The type or key of a job is empty or too long: "${type.slice(0, 100)}".`);
  }
  if (runAt !== undefined && !Number.isSafeInteger(runAt)) {
    throw new FaultError('bug', `The time of a job "${type}" is not a whole number of milliseconds.`);
  }
  return { type, key: key ?? null, payload: text, runAt: runAt ?? null };
}

/** The queue of this database. `onEnqueued` is called after each request was stored, with whether it is due at once. */
export function jobQueue(database: Database, onEnqueued: (due: boolean) => void = () => {}): JobQueue {
  return {
    async enqueue(request) {
      await database.run(jobEnqueue, { requests: [storedRequest(request)] }, { lane: 'job' });
      onEnqueued(request.runAt === undefined);
    },
  };
}
