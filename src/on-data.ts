/**
 * What the command line does on a data folder: through the admin socket of the server that has it, else on the folder
 * itself, which is taken for as long as it lasts. With PostgreSQL it works there, beside the servers that run.
 */
import { resolve } from 'node:path';
import type { AccountInfo } from './access/accounts.ts';
import type { Configuration } from './configuration.ts';
import { systemClock } from './kit/clock.ts';
import { noMetrics, silentLog } from './kit/log.ts';
import { askAdmin } from './server/admin.ts';

/** The commands, by the names that the admin socket knows; what each takes and gives. */
export interface DataCommands {
  'user.add': (args: { readonly name: string; readonly password: string }) => Promise<void>;
  'user.passwd': (args: { readonly name: string; readonly password: string }) => Promise<void>;
  'user.disable': (args: { readonly name: string }) => Promise<void>;
  'user.enable': (args: { readonly name: string }) => Promise<void>;
  /** A page of at most 1,000 in byte order of names; `after` is exclusive. */
  'user.list': (args: { readonly after?: string }) => Promise<readonly AccountInfo[]>;
}

/** Runs one command. Throws what a person may read: the server's refusal, or FaultError where the folder is not to be had. */
export async function onData<Name extends keyof DataCommands>(
  config: Configuration,
  name: Name,
  args: Parameters<DataCommands[Name]>[0],
): Promise<Awaited<ReturnType<DataCommands[Name]>>> {
  type Result = Awaited<ReturnType<DataCommands[Name]>>;
  const data = resolve(config.data);
  const asked = config.database.url === undefined ? await askAdmin(data, name, args) : undefined;
  if (asked !== undefined) return asked.result as Result;
  const [accounts, { openDatabase }] = await Promise.all([import('./access/accounts.ts'), import('./opening.ts')]);
  const database = await openDatabase({ config, data, clock: systemClock, log: silentLog, metrics: noMetrics });
  const commands: DataCommands = {
    'user.add': (account) => accounts.addAccount(database, account),
    'user.passwd': (account) => accounts.setPassword(database, account.name, account.password),
    'user.disable': (account) => accounts.setDisabled(database, account.name, true),
    'user.enable': (account) => accounts.setDisabled(database, account.name, false),
    'user.list': (page) => accounts.listAccounts(database, page),
  };
  try {
    // What is written into a database that is to be made again would be lost.
    await (await import('./maintenance/reindex-mark.ts')).refuseHalfRebuilt(database);
    await (await import('./maintenance/restore-mark.ts')).refuseHalfRestored(database);
    return (await commands[name](args as never)) as Result;
  } finally {
    await database.close();
  }
}
