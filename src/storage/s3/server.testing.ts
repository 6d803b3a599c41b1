/** An S3 server of one's own for tests: versitygw over a folder that is removed afterwards. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../../test/support/port.ts';
import { findTool, withTools } from '../../../test/support/tools.ts';
import type { S3Settings } from '../settings.ts';

/** The key and secret of the test server. */
export const TEST_KEY = 'longshoretestkey';
/** See `TEST_KEY`. */
export const TEST_SECRET = 'longshore-test-secret-that-must-not-show';

/** A running server. */
export interface S3Server {
  /** `http://127.0.0.1:…` */
  readonly endpoint: string;
  readonly pid: number;
  /** The folder that holds the buckets as folders. */
  readonly root: string;
  /** Makes a bucket and gives the settings for it. */
  bucket(name: string, more?: Partial<S3Settings>): Promise<S3Settings>;
  stop(): Promise<void>;
}

/** Registers tests that need the server; where the program is missing, says so (or fails) as every such test does. */
export function withS3(what: string, register: () => void): void {
  withTools(['versitygw'], what, register);
}

/** Settings of a bucket behind any endpoint, with the test server's key. */
export function s3Settings(endpoint: string, bucket: string, more: Partial<S3Settings> = {}): S3Settings {
  return {
    driver: 's3',
    bucket,
    prefix: '',
    region: 'us-east-1',
    endpoint,
    forcePathStyle: true,
    accessKeyId: TEST_KEY,
    secretAccessKey: TEST_SECRET,
    serverSideEncryption: 'none',
    checksums: 'whenSupported',
    ...more,
  };
}

/** Starts a server on 127.0.0.1 and waits until it answers. */
export async function startS3(): Promise<S3Server> {
  const program = findTool('versitygw');
  if (program === undefined) throw new Error('versitygw is not installed: `npm run test:setup` installs it.');
  const folder = await mkdtemp(join(tmpdir(), 'longshore-s3-'));
  const root = join(folder, 'buckets');
  await mkdir(root);
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const endpoint = `http://127.0.0.1:${port}`;
    const child = spawn(program, ['--port', `127.0.0.1:${port}`, '--quiet', '--keep-alive', 'posix', root], {
      cwd: folder,
      env: { ROOT_ACCESS_KEY: TEST_KEY, ROOT_SECRET_KEY: TEST_SECRET },
      stdio: 'ignore',
    });
    const withUs = (): void => void child.kill('SIGKILL');
    process.once('exit', withUs);
    const stop = async (): Promise<void> => {
      process.off('exit', withUs);
      await ended(child);
      await rm(folder, { recursive: true, force: true });
    };
    if (await answers(child, endpoint)) {
      return {
        endpoint,
        pid: child.pid!,
        root,
        async bucket(name, more) {
          await mkdir(join(root, name), { recursive: true });
          return s3Settings(endpoint, name, more);
        },
        stop,
      };
    }
    await ended(child);
    // Another process may have taken the port meanwhile.
    if (attempt === 3) {
      await stop();
      throw new Error('versitygw does not start');
    }
  }
}

async function answers(child: ChildProcess, endpoint: string): Promise<boolean> {
  for (let i = 0; i < 200 && child.exitCode === null; i++) {
    try {
      await (await fetch(endpoint, { signal: AbortSignal.timeout(2000) })).arrayBuffer();
      // Where another server has the port, it was that one which answered, and this one ends now.
      await new Promise((resolve) => setTimeout(resolve, 100));
      return child.exitCode === null;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  return false;
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) {
      resolve();
      return;
    }
    child.once('exit', () => resolve());
    child.kill('SIGKILL');
  });
}
