/** The program's entry: hands the arguments to the command line. */
import { main } from './cli/main.ts';

process.exitCode = await main(process.argv.slice(2));
