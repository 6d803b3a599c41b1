/** The contract of queue, dispatch, worker and schedule, over a database opened with TEST_COMMANDS. */
import { describe } from 'node:test';
import { dispatchContract } from './dispatch.contract.ts';
import { queueContract } from './queue.contract.ts';
import { type OpenDatabase, suite } from './suite.testing.ts';
import { workerContract } from './worker.contract.ts';

/** Registers the whole suite. */
export function jobQueueContract(name: string, open: OpenDatabase): void {
  describe(`jobs on ${name}`, () => {
    const on = suite(open);
    queueContract(on);
    workerContract(on);
    dispatchContract(on);
  });
}
