/** A writer thread that runs the commands of these tests. */
import { TEST_COMMANDS } from './commands.testing.ts';
import { runWriterThread } from './sqlite/writer-thread.ts';

runWriterThread(TEST_COMMANDS);
