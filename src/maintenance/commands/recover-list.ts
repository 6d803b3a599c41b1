/** The commands of a recovery, and of the mark in storage that shows when one is needed. */
import type { CommandList } from '../../database/database.ts';
import { storageMark } from './recover-mark.ts';
import { recoverAdopt, recoverBegin, recoverEnd, recoverEpoch } from './recover-state.ts';

/** All of them. */
export const RECOVER_COMMANDS: CommandList = [storageMark, recoverBegin, recoverEpoch, recoverAdopt, recoverEnd];
