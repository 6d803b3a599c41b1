/**
 * The admin socket: DATA/admin.sock, for the command line of whoever may read the data folder. HTTP with JSON bodies
 * over a Unix socket of mode 0600; there is no other check, for the folder is the right.
 */
import { chmodSync, existsSync, rmSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { join } from 'node:path';
import type { Log } from '../kit/log.ts';
import { readBounded } from '../kit/read-bounded.ts';
import { answer } from './answer.ts';

/** What the socket does, by name. Takes and gives JSON; an error's `status` (400 to 499) and message reach the caller. */
export type AdminCommands = Readonly<Record<string, (args: unknown) => Promise<unknown>>>;

/** A command that the running server refused; the message is for a person. */
export class AdminError extends Error {
  override readonly name = 'AdminError';
}

/** Longest path of a Unix socket. */
const LONGEST_PATH = 107;
const BODY_LIMIT = 64 * 1024;

/** Where a data folder's socket is. */
export function adminSocket(folder: string): string {
  return join(folder, 'admin.sock');
}

/** Serves commands on the socket of a data folder that this process owns. Gives the function that ends it. */
export async function serveAdmin(folder: string, commands: AdminCommands, log: Log): Promise<() => Promise<void>> {
  const path = adminSocket(folder);
  if (Buffer.byteLength(path) > LONGEST_PATH) {
    log.warn('the data folder’s path is too long for an admin socket: the command line cannot reach this server', {
      path,
    });
    return async () => undefined;
  }
  // The owner of the folder is this process, so whatever is there is left over.
  rmSync(path, { force: true });
  const server = createServer({ requestTimeout: 30_000 }, (asked, response) => {
    const name = /^\/([a-z][a-z.-]{0,63})$/.exec(asked.url ?? '')?.[1] ?? '';
    const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
    const say = (status: number, body: unknown): void =>
      answer(asked, response, status, 'application/json', JSON.stringify(body));
    if (asked.method !== 'POST' || command === undefined)
      return say(404, { message: 'This server does not know that command.' });
    void (async () => {
      try {
        const body = await readBounded(asked, BODY_LIMIT);
        if (body === undefined) return say(413, { message: `A command has at most ${BODY_LIMIT} bytes.` });
        let args: unknown;
        try {
          args = body.length === 0 ? undefined : JSON.parse(body.toString('utf8'));
        } catch {
          return say(400, { message: 'The command is not JSON.' });
        }
        say(200, { result: (await command(args)) ?? null });
      } catch (error) {
        const { status, message } = error as { status?: unknown; message: string };
        if (typeof status === 'number' && status >= 400 && status < 500) return say(status, { message });
        log.error('a command on the admin socket failed', { command: name, error: error as Error });
        say(500, { message: 'The server failed; its log has the cause.' });
      }
    })();
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
  server.on('error', (error) => log.error('the admin socket failed', { error }));
  return () =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
}

/** Asks the server of a data folder. Undefined: none is running there. AdminError where it refuses. */
export async function askAdmin(
  folder: string,
  command: string,
  args: unknown,
): Promise<{ result: unknown } | undefined> {
  const path = adminSocket(folder);
  if (!existsSync(path)) return undefined;
  return new Promise((resolve, reject) => {
    const asking = request({ socketPath: path, path: `/${command}`, method: 'POST', timeout: 60_000 }, (reply) => {
      readBounded(reply, 16 * 1024 * 1024).then((body) => {
        const said = JSON.parse(body?.toString('utf8') ?? '{}') as { result?: unknown; message?: string };
        if (reply.statusCode === 200) resolve({ result: said.result });
        else reject(new AdminError(said.message ?? `The server answered ${reply.statusCode}.`));
      }, reject);
    });
    asking.on('timeout', () => asking.destroy(new AdminError('The server does not answer on its admin socket.')));
    asking.on('error', (error: NodeJS.ErrnoException) => {
      // Left over from a server that was killed.
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(undefined);
      else reject(error);
    });
    asking.end(args === undefined ? undefined : JSON.stringify(args));
  });
}
