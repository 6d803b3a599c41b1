/** The program's version, from package.json. */
import manifest from '../package.json' with { type: 'json' };

/** As in package.json, `0.1.0`. */
export const VERSION: string = manifest.version;
