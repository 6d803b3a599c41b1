/** This feature's commands, for `commands.ts`. No logic. */
import type { CommandList } from '../../../database/database.ts';
import { holdAdd, holdRemove } from './hold.ts';

/** The commands. */
export const TAG_HISTORY_COMMANDS: CommandList = [holdAdd, holdRemove];
