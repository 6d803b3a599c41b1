/** Entry of the writer thread in this room's tests: its own commands only. */
import { runWriterThread } from '../database/sqlite/writer-thread.ts';
import { ACCESS_COMMANDS } from './commands/list.ts';

runWriterThread(ACCESS_COMMANDS);
