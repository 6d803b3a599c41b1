/** The commands of backup and restore. */
import type { CommandList } from '../../database/database.ts';
import { backupLeaseEnd, backupLeaseRenew, backupLeaseTake } from './backup-lease.ts';
import { restoreClear, restoreCounter, restoreEnd, restoreEpoch, restoreLoad } from './restore-load.ts';
import { restoreDead, restoreRenumber, restoreSettle } from './restore-settle.ts';

/** All of them. */
export const BACKUP_COMMANDS: CommandList = [
  ...[backupLeaseTake, backupLeaseRenew, backupLeaseEnd],
  ...[restoreClear, restoreLoad, restoreCounter, restoreEpoch, restoreEnd],
  ...[restoreDead, restoreRenumber, restoreSettle],
];
