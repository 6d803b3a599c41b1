/** Every command there is. A list, no logic: the writer thread finds a command here by its name. */
import { ACCESS_COMMANDS } from './access/commands/list.ts';
import type { CommandList } from './database/database.ts';
import { TAG_HISTORY_COMMANDS } from './features/tag-history/commands/list.ts';
import { JOB_COMMANDS } from './jobs/commands/list.ts';
import { LOCAL_COMMANDS } from './local/commands/list.ts';
import { BACKUP_COMMANDS } from './maintenance/commands/backup-list.ts';
import { GC_COMMANDS } from './maintenance/commands/gc-list.ts';
import { RECOVER_COMMANDS } from './maintenance/commands/recover-list.ts';
import { REINDEX_COMMANDS } from './maintenance/commands/reindex-list.ts';
import { TRUST_COMMANDS } from './maintenance/commands/trust-list.ts';

/** All commands. */
export const COMMANDS: CommandList = [
  ...ACCESS_COMMANDS,
  ...LOCAL_COMMANDS,
  ...JOB_COMMANDS,
  ...GC_COMMANDS,
  ...REINDEX_COMMANDS,
  ...BACKUP_COMMANDS,
  ...RECOVER_COMMANDS,
  ...TAG_HISTORY_COMMANDS,
  ...TRUST_COMMANDS,
];
