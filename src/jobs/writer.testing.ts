/** Entry of the writer thread in this room's tests. */
import { runWriterThread } from '../database/sqlite/writer-thread.ts';
import { TEST_COMMANDS } from './commands.testing.ts';

runWriterThread(TEST_COMMANDS);
