/** Servers for scenarios: one per file, ended with it; and users, made the way an administrator makes them. */
import { spawn } from 'node:child_process';
import { after } from 'node:test';
import {
  cleanEnvironment,
  type Longshore,
  longshoreCommand,
  type StartOptions,
  startLongshore,
} from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';

/** A server for this file, killed when its tests are done. Without `config`: open to all, as on a laptop. */
export async function open(options: StartOptions = {}): Promise<Longshore> {
  const server = await startLongshore(options);
  after(() => server.kill());
  return server;
}

/** Runs the command line with `input` on its standard input; gives its status and output. */
export function cli(args: readonly string[], input = ''): Promise<{ code: number; output: string }> {
  const [program = '', ...rest] = longshoreCommand();
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...rest, ...args], { env: cleanEnvironment(), stdio: ['pipe', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString();
    });
    child.stderr.on('data', (data: Buffer) => {
      output += data.toString();
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code: code ?? -1, output }));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}

/** Makes a user in a data folder that no server holds. */
export async function addUser(data: string, name: string, password: string): Promise<void> {
  const { code, output } = await cli(['user', 'add', name, '--data', data], `${password}\n`);
  if (code !== 0) throw new Error(`longshore user add ${name}: ${code} ${output}`);
}

/** The users of `closed`, by name. */
export const PASSWORDS = {
  alice: 'alice has a long password 1',
  bob: 'bob has a long password 2',
  carol: 'carol: with colon and ü 3',
} as const;

/**
 * A server with users: alice may do everything below `team/` and `alice/`, bob pulls from `team/` and owns `bob/`,
 * carol owns `carol/`. Nobody else may do anything, unless `anonymous` says so.
 */
export async function closed(
  options: { anonymous?: 'none' | 'pull' | 'push'; config?: Record<string, object> } = {},
): Promise<Longshore> {
  const data = temporaryFolder('data');
  for (const [name, password] of Object.entries(PASSWORDS)) await addUser(data, name, password);
  const all = ['pull', 'push', 'delete'];
  return open({
    data,
    config: {
      ...options.config,
      access: {
        anonymous: options.anonymous ?? 'none',
        rules: [
          { users: ['alice'], repositories: ['team/**', 'alice/**'], actions: all },
          { users: ['bob'], repositories: ['team/**'], actions: ['pull'] },
          { users: ['bob'], repositories: ['bob/**'], actions: all },
          { users: ['carol'], repositories: ['carol/**'], actions: all },
        ],
        ...options.config?.access,
      },
    },
  });
}
