/** Every command there is. A list, no logic: the writer thread finds a command here by its name. */
import type { CommandList } from './database/database.ts';
import { LOCAL_COMMANDS } from './local/commands/list.ts';

/** All commands. */
export const COMMANDS: CommandList = [...LOCAL_COMMANDS];
