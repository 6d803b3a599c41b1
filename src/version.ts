/** The program's version, from package.json. */
import { createRequire } from 'node:module';

/** Put here by the build; absent where the source runs. */
declare const LONGSHORE_VERSION: string;

/** As in package.json, `0.1.0`. */
export const VERSION: string =
  typeof LONGSHORE_VERSION === 'undefined'
    ? (createRequire(import.meta.url)('../package.json') as { version: string }).version
    : LONGSHORE_VERSION;
