/** The commands of this room, for `src/commands.ts`. */
import type { CommandList } from '../../database/database.ts';
import { accountAdd, accountDisable, accountPassword } from './account.ts';
import { refreshTokenAdd, refreshTokenExpire } from './refresh-token.ts';
import { signingKeyAdd } from './signing-key.ts';

/** Every command of access. */
export const ACCESS_COMMANDS: CommandList = [
  accountAdd,
  accountPassword,
  accountDisable,
  refreshTokenAdd,
  refreshTokenExpire,
  signingKeyAdd,
];
