/** A process of its own that collects in a data folder and dies at a failpoint: FOLDER FAILPOINT. */
import { armFailpoints, FAILPOINTS, killAt } from '../../src/kit/failpoint.ts';
import { freshLocal } from '../../src/local/fresh.testing.ts';
import { collectAll } from './kill-support.ts';

const [folder = '', name = ''] = process.argv.slice(2);
const failpoint = FAILPOINTS.find((each) => each === name);
if (failpoint === undefined) throw new Error(`no failpoint ${name}`);
const local = await freshLocal({ folder, keep: true });
armFailpoints(killAt(failpoint, 1));
await collectAll(local);
throw new Error(`${name} was not reached`);
