/** Commands on accounts. Each change that must end sessions raises the generation, and with it tokens die. */
import type { Command, CommandContext } from '../../database/database.ts';
import { RegistryError } from '../../oci/error.ts';

/** Whoever calls makes the uid and the hash: a command does no work that is not SQL. */
export interface AccountAdd {
  readonly uid: string;
  readonly name: string;
  readonly passwordHash: string;
}

const missing = (name: string): RegistryError =>
  new RegistryError('NAME_UNKNOWN', `There is no user ${JSON.stringify(name)}.`);

/** Adds an account; DENIED (409) where the name is taken. */
export const accountAdd: Command<AccountAdd, null> = {
  name: 'access.account-add',
  tells: 'access',
  async run({ sql, now }, { uid, name, passwordHash }) {
    const added = await sql.run(
      'insert into account (uid, name, password_hash, disabled, generation, created_at) values (?, ?, ?, 0, 1, ?) on conflict (name) do nothing',
      uid,
      name,
      passwordHash,
      now,
    );
    if (added === 0) {
      throw new RegistryError('DENIED', `There is a user ${JSON.stringify(name)} already.`, { status: 409 });
    }
    return { result: null, touched: [] };
  },
};

async function forgetSessions(sql: CommandContext['sql'], name: string): Promise<void> {
  await sql.run("delete from refresh_token where subject in (select 'user:' || uid from account where name = ?)", name);
}

/** Sets the hash; NAME_UNKNOWN. Old sessions and tokens end. */
export const accountPassword: Command<{ readonly name: string; readonly passwordHash: string }, null> = {
  name: 'access.account-password',
  tells: 'access',
  async run({ sql }, { name, passwordHash }) {
    const changed = await sql.run(
      'update account set password_hash = ?, generation = generation + 1 where name = ?',
      passwordHash,
      name,
    );
    if (changed === 0) throw missing(name);
    await forgetSessions(sql, name);
    return { result: null, touched: [] };
  },
};

/** Disables or enables; NAME_UNKNOWN. Both end old sessions and tokens; no change changes nothing. */
export const accountDisable: Command<{ readonly name: string; readonly disabled: boolean }, null> = {
  name: 'access.account-disable',
  tells: 'access',
  async run({ sql }, { name, disabled }) {
    const account = await sql.get<{ disabled: number }>(
      'select disabled from account where name = ? {for update}',
      name,
    );
    if (account === undefined) throw missing(name);
    if ((account.disabled !== 0) !== disabled) {
      await sql.run(
        'update account set disabled = ?, generation = generation + 1 where name = ?',
        disabled ? 1 : 0,
        name,
      );
      await forgetSessions(sql, name);
    }
    return { result: null, touched: [] };
  },
};
