/** Every command there is, so that the writer thread finds it by its name. A list, no logic. */
import type { CommandList } from './database/database.ts';

/** All commands of the core and of the features. */
export const COMMANDS: CommandList = [];
