/**
 * `longshore user …`: through the admin socket where a server has the data folder, else
 * on the folder itself.
 */
import { type DataCommands, onData } from '../on-data.ts';
import type { Given } from './command-line.ts';
import { say } from './output.ts';
import { readPassword } from './password.ts';
import { configurationOf } from './settings.ts';

const PAGE = 1_000;

/** `user add NAME` */
export async function addUser(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  const name = given.positionals[0]!;
  const password = await readPassword(true);
  await onData(config, 'user.add', { name, password });
  return say(`User ${name} may log in now.`);
}

/** `user passwd NAME` */
export async function changePassword(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  const name = given.positionals[0]!;
  const password = await readPassword(true);
  await onData(config, 'user.passwd', { name, password });
  return say(`The password of ${name} was changed; every session of before has ended.`);
}

/** `user disable NAME`, `user enable NAME` */
export async function switchUser(given: Given, disabled: boolean): Promise<number> {
  const { config } = await configurationOf(given);
  const name = given.positionals[0]!;
  await onData(config, disabled ? 'user.disable' : 'user.enable', { name });
  return say(`User ${name} is ${disabled ? 'disabled; every session has ended' : 'enabled'}.`);
}

/** `user list` */
export async function listUsers(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  const users: Awaited<ReturnType<DataCommands['user.list']>>[number][] = [];
  for (;;) {
    const after = users.at(-1)?.name;
    const page = await onData(config, 'user.list', after === undefined ? {} : { after });
    users.push(...page);
    if (page.length < PAGE) break;
  }
  if (given.flags.json === true) return say(JSON.stringify(users, undefined, 2));
  const widest = Math.max(4, ...users.map((user) => user.name.length));
  for (const user of users) {
    say(
      `${user.name.padEnd(widest)}  ${new Date(user.createdAt).toISOString().slice(0, 10)}  ${user.disabled ? 'disabled' : 'enabled'}`,
    );
  }
  return users.length === 0 ? say('There are no users.') : 0;
}
