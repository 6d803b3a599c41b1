/** The reader thread's entry. */
import { runReaderThread } from './database/sqlite/reader-thread.ts';

runReaderThread();
