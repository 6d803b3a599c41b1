/** A writer thread with a command that ends it in the middle of a batch. */
import { TEST_COMMANDS } from '../commands.testing.ts';
import { runWriterThread } from './writer-thread.ts';

runWriterThread([...TEST_COMMANDS, { name: 'test-die', run: async () => process.exit(3) }]);
