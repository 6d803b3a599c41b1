/** A writer thread that runs the program's commands and those that poke at tables. */
import { COMMANDS } from '../commands.ts';
import { script } from '../database/commands.testing.ts';
import { runWriterThread } from '../database/sqlite/writer-thread.ts';

runWriterThread([...COMMANDS, script]);
