/** Accounts as whoever runs the server handles them: from the command line, the admin socket, later the API. */

import type { Database } from '../database/database.ts';
import { type Clock, systemClock } from '../kit/clock.ts';
import { uuidv7 } from '../kit/id.ts';
import { RegistryError } from '../oci/error.ts';
import { accountAdd, accountDisable, accountPassword } from './commands/account.ts';
import { hashPassword, MAX_PASSWORD } from './password-hash.ts';

const NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;
/** Fewest characters of a new password. */
export const MIN_PASSWORD = 8;

/** Whether a text can be an account's name. */
export function isAccountName(name: string): boolean {
  return NAME.test(name);
}

function checkName(name: string): void {
  if (isAccountName(name)) return;
  throw new RegistryError(
    'NAME_INVALID',
    'A user name has 1 to 64 characters: lower-case letters, digits, ".", "_" and "-", and begins with a letter or a digit.',
  );
}

function checkPassword(password: string): void {
  const length = [...password].length;
  if (length >= MIN_PASSWORD && Buffer.byteLength(password, 'utf8') <= MAX_PASSWORD) return;
  throw new RegistryError(
    'DENIED',
    length < MIN_PASSWORD
      ? `A password has at least ${MIN_PASSWORD} characters.`
      : `A password has at most ${MAX_PASSWORD} bytes.`,
    { status: 400 },
  );
}

/** What the functions below need besides the database; both have a default that serves a command-line tool. */
export interface AccountTools {
  readonly clock?: Clock;
  /** Makes the hash: the password thread in a server. */
  readonly hash?: (password: string) => Promise<string>;
}

type AccountDatabase = Pick<Database, 'run' | 'query'>;

/** Adds an account. NAME_INVALID, DENIED with 400 for the password, DENIED with 409 where the name is taken. */
export async function addAccount(
  database: AccountDatabase,
  account: { readonly name: string; readonly password: string },
  tools: AccountTools = {},
): Promise<void> {
  checkName(account.name);
  checkPassword(account.password);
  const passwordHash = await (tools.hash ?? hashPassword)(account.password);
  const uid = uuidv7((tools.clock ?? systemClock).now());
  await database.run(accountAdd, { uid, name: account.name, passwordHash });
}

/** Sets a password; every session and token of the account ends. NAME_UNKNOWN, DENIED with 400. */
export async function setPassword(
  database: AccountDatabase,
  name: string,
  password: string,
  tools: AccountTools = {},
): Promise<void> {
  checkName(name);
  checkPassword(password);
  await database.run(accountPassword, { name, passwordHash: await (tools.hash ?? hashPassword)(password) });
}

/** Disables or enables; every session and token of the account ends. NAME_UNKNOWN. */
export async function setDisabled(database: AccountDatabase, name: string, disabled: boolean): Promise<void> {
  checkName(name);
  await database.run(accountDisable, { name, disabled });
}

/** An account as it may be shown. `createdAt`: wall milliseconds. */
export interface AccountInfo {
  readonly name: string;
  readonly disabled: boolean;
  readonly createdAt: number;
}

/** A page of accounts in byte order of their names; `after` is exclusive. At most 1,000. */
export async function listAccounts(
  database: Pick<AccountDatabase, 'query'>,
  page: { readonly after?: string; readonly limit?: number } = {},
): Promise<readonly AccountInfo[]> {
  const rows = await database.query.all<{ name: string; disabled: number; created_at: number }>(
    'select name, disabled, created_at from account where name > ? order by name limit ?',
    page.after ?? '',
    Math.max(1, Math.min(page.limit ?? 1000, 1000)),
  );
  return rows.map((row) => ({ name: row.name, disabled: row.disabled !== 0, createdAt: row.created_at }));
}
