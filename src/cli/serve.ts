/** `longshore serve`: starts the server, says where it is and how it is used, and stops it on a signal. */
import { statSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { resolve } from 'node:path';
import { testFailpoint } from '../config/load.ts';
import type { Configuration } from '../configuration.ts';
import { after } from '../kit/clock.ts';
import { start } from '../start.ts';
import { VERSION } from '../version.ts';
import type { Given } from './command-line.ts';
import { configurationOf } from './settings.ts';

/** Starts, and resolves with the exit code when the server has stopped. */
export async function serve(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  const wide = isOpenToOthers(config.data);
  let running: Awaited<ReturnType<typeof start>>;
  try {
    running = await start({
      config,
      version: VERSION,
      reload: async () => (await configurationOf(given)).config,
      failpoint: testFailpoint(),
    });
  } catch (error) {
    throw explained(error as NodeJS.ErrnoException);
  }
  const ended = Promise.withResolvers<number>();
  const isPrimary = process.send === undefined;
  if (isPrimary) {
    const stop = (): void => {
      void running.stop().then((well) => ended.resolve(well ? 0 : 1));
    };
    process.on('SIGTERM', stop);
    process.on('SIGINT', stop);
    process.on('SIGHUP', () => void running.reload());
    // A reader of the start message that has gone must not end the server.
    process.stdout.on('error', () => undefined);
    process.stdout.write(startMessage(running.url, config, running.anonymousMode()));
    if (wide) process.stderr.write(`longshore: others on this machine may look into ${config.data}; chmod 700 it.\n`);
  }
  after(2_000, flushCompileCache);
  return ended.promise;
}

/** What is printed when it serves. */
export function startMessage(url: string, config: Configuration, anonymous: 'none' | 'pull' | 'push'): string {
  const { host, protocol } = new URL(url);
  const plain = protocol === 'http:';
  const access = {
    push: `anyone who reaches it may pull and push${config.access.anonymous === undefined ? '; the first `longshore user add NAME` ends that' : ''}`,
    pull: 'anyone may pull; pushing needs a login',
    none: 'pulling and pushing need a login (`longshore user add NAME`, then `docker login`)',
  }[anonymous];
  const tls = (side: string): string => (plain ? ` --${side}tls-verify=false` : '');
  return [
    `Longshore ${VERSION} serves ${url}`,
    '',
    `  data    ${resolve(config.data)}`,
    `  access  ${access}`,
    '',
    `  push    docker tag alpine ${host}/alpine && docker push ${host}/alpine`,
    `          skopeo copy${tls('dest-')} docker-daemon:alpine:latest docker://${host}/alpine:latest`,
    `  pull    docker pull ${host}/alpine`,
    `          skopeo copy${tls('src-')} docker://${host}/alpine:latest oci:alpine`,
    '',
    '',
  ].join('\n');
}

/** Whether the data folder was there before and others may look into it. One that is made now is 0700. */
function isOpenToOthers(folder: string): boolean {
  try {
    return (statSync(folder).mode & 0o077) !== 0;
  } catch {
    return false;
  }
}

/** What failed at the start, with what to do. */
function explained(error: NodeJS.ErrnoException & { port?: number; address?: string }): Error {
  const where = `${error.address ?? ''}:${error.port ?? ''}`;
  if (error.code === 'EADDRINUSE') {
    return new Error(
      `${where} is in use by another program. Stop that one, or serve elsewhere: --listen 127.0.0.1:5001`,
      { cause: error },
    );
  }
  if (error.code === 'EACCES' && error.port !== undefined) {
    return new Error(`${where} may not be listened on by this user; ports below 1024 are for the administrator.`, {
      cause: error,
    });
  }
  if (error.code === 'EADDRNOTAVAIL') return new Error(`${where} is not an address of this machine.`, { cause: error });
  return error;
}
