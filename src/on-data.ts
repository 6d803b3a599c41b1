/** What command-line tools do on a data folder while no server has it. */
import { resolve } from 'node:path';
import { type AccountInfo, addAccount, listAccounts, setDisabled, setPassword } from './access/accounts.ts';
import { databaseOptions } from './compose.ts';
import type { Configuration } from './configuration.ts';
import { openSqlite } from './database/open.ts';
import { systemClock } from './kit/clock.ts';
import { noMetrics, silentLog } from './kit/log.ts';

/** The commands that the admin socket of a running server has too, by the same names. */
export interface DataCommands {
  addUser(name: string, password: string): Promise<void>;
  setPassword(name: string, password: string): Promise<void>;
  setDisabled(name: string, disabled: boolean): Promise<void>;
  listUsers(after?: string): Promise<readonly AccountInfo[]>;
}

/** Takes the data folder, works, and gives it back. FaultError where a server has it. */
export async function onData<T>(config: Configuration, work: (commands: DataCommands) => Promise<T>): Promise<T> {
  const database = await openSqlite(
    databaseOptions({ config, data: resolve(config.data), clock: systemClock, log: silentLog, metrics: noMetrics }),
  );
  try {
    return await work({
      addUser: (name, password) => addAccount(database, { name, password }),
      setPassword: (name, password) => setPassword(database, name, password),
      setDisabled: (name, disabled) => setDisabled(database, name, disabled),
      listUsers: (after) => listAccounts(database, after === undefined ? {} : { after }),
    });
  } finally {
    await database.close();
  }
}
