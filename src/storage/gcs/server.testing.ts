/** A Google Cloud Storage server of one's own for tests: fake-gcs-server, in memory. */
import { spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../../test/support/port.ts';
import { findTool, withTools } from '../../../test/support/tools.ts';
import type { GcsSettings } from '../settings.ts';

/** A running server. */
export interface GcsServer {
  readonly endpoint: string;
  /** Makes a bucket and gives the settings for it, with the key of an account that may sign. */
  bucket(name: string, more?: Partial<GcsSettings>): Promise<GcsSettings>;
  stop(): Promise<void>;
}

/** Registers tests that need the server; where the program is missing, says so (or fails) as every such test does. */
export function withGcs(what: string, register: () => void): void {
  withTools(['fake-gcs-server'], what, register);
}

/** Starts a server on 127.0.0.1 and waits until it answers. */
export async function startGcs(): Promise<GcsServer> {
  const program = findTool('fake-gcs-server');
  if (program === undefined) throw new Error('fake-gcs-server is not installed: `npm run test:setup` installs it.');
  const folder = await mkdtemp(join(tmpdir(), 'longshore-gcs-'));
  const port = await freePort();
  const host = `127.0.0.1:${port}`;
  const endpoint = `http://${host}`;
  const args = ['-scheme', 'http', '-host', '127.0.0.1', '-port', String(port), '-external-url', endpoint];
  const child = spawn(program, [...args, '-public-host', host, '-backend', 'memory', '-log-level', 'error'], {
    stdio: 'ignore',
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
    await rm(folder, { recursive: true, force: true });
  };
  try {
    for (let tries = 0; ; tries++) {
      if (
        await fetch(`${endpoint}/storage/v1/b?project=p`).then(
          (answer) => answer.ok,
          () => false,
        )
      )
        break;
      if (tries === 200) throw new Error('fake-gcs-server does not answer');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  } catch (error) {
    await stop();
    throw error;
  }
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const keyFile = join(folder, 'key.json');
  const key = { client_email: 'longshore@p.test', private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }) };
  await writeFile(keyFile, JSON.stringify({ type: 'service_account', project_id: 'p', ...key }));
  return {
    endpoint,
    stop,
    async bucket(name, more = {}) {
      const answer = await fetch(`${endpoint}/storage/v1/b?project=p`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ name }),
      });
      if (!answer.ok) throw new Error(`the bucket could not be made: ${answer.status}`);
      return { driver: 'gcs', bucket: name, prefix: '', endpoint, projectId: 'p', keyFile, ...more };
    },
  };
}
