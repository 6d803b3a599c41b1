/** The program's entry: hands the arguments to the command line. */
import { main } from './cli/main.ts';

const code = await main(process.argv.slice(2));
// Threads and timers of a server that could not start must not keep the process.
process.exit(code);
