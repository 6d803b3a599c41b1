/** An Azure Blob server of one's own for tests: azurite, over a folder that is removed afterwards. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { BlobServiceClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import { freePort } from '../../../test/support/port.ts';
import { leftOut } from '../../../test/support/tools.ts';
import type { AzureSettings } from '../settings.ts';

const PROGRAM = resolve(
  import.meta.dirname,
  '../../../test/servers/azurite/node_modules/azurite/dist/src/blob/main.js',
);
const ACCOUNT = 'longshoretest';

/** A running server. */
export interface AzureServer {
  readonly endpoint: string;
  /** Makes a container and gives the settings for it. */
  container(name: string, more?: Partial<AzureSettings>): Promise<AzureSettings>;
  stop(): Promise<void>;
}

/** Registers tests that need the server; where it is missing, says so (or fails) as every such test does. */
export function withAzure(what: string, register: () => void): void {
  if (existsSync(PROGRAM)) register();
  else if (process.env.LONGSHORE_TEST_ALL !== '1') leftOut(`${what}: needs azurite`);
  else
    test(`${what}: the programs it needs are there`, () => {
      throw new Error(`${what}: needs azurite; \`npm run test:setup\` installs what is missing`);
    });
}

/** Starts a server on 127.0.0.1 and waits until it answers. */
export async function startAzure(): Promise<AzureServer> {
  const folder = await mkdtemp(join(tmpdir(), 'longshore-azure-'));
  const port = await freePort();
  const accountKey = randomBytes(48).toString('base64');
  const child = spawn(
    process.execPath,
    [
      PROGRAM,
      ...['--blobHost', '127.0.0.1', '--blobPort', String(port), '--location', folder],
      ...['--silent', '--skipApiVersionCheck', '--disableTelemetry'],
    ],
    { stdio: 'ignore', env: { PATH: process.env.PATH ?? '', AZURITE_ACCOUNTS: `${ACCOUNT}:${accountKey}` } },
  );
  const ended = new Promise<void>((done) => child.once('exit', () => done()));
  const endpoint = `http://127.0.0.1:${port}/${ACCOUNT}`;
  const service = new BlobServiceClient(endpoint, new StorageSharedKeyCredential(ACCOUNT, accountKey));
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
    await rm(folder, { recursive: true, force: true });
  };
  try {
    for (let tries = 0; ; tries++) {
      if (
        await fetch(endpoint).then(
          () => true,
          () => false,
        )
      )
        break;
      if (tries === 400 || child.exitCode !== null) throw new Error('azurite does not answer');
      await new Promise((done) => setTimeout(done, 50));
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    endpoint,
    stop,
    async container(name, more = {}) {
      await service.getContainerClient(name).create();
      return { driver: 'azure', container: name, prefix: '', endpoint, account: ACCOUNT, accountKey, ...more };
    },
  };
}
