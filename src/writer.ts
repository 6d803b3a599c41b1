/** The writer thread's entry: the commands, and the loop that runs them. Imports only what it runs. */
import { COMMANDS } from './commands.ts';
import { runWriterThread } from './database/sqlite/writer-thread.ts';

runWriterThread(COMMANDS);
