/**
 * A fleet on one machine: PostgreSQL, a server that speaks S3, several instances of the real program that share both,
 * and a load balancer in front. PostgreSQL and the S3 server are started once for a test file and end with it.
 */
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { postgresBinaries, startPostgres, type TestServer } from '../../../src/database/postgres/server.testing.ts';
import { type S3Server, startS3 } from '../../../src/storage/s3/server.testing.ts';
import type { S3Settings } from '../../../src/storage/settings.ts';
import { type Client, client } from '../../support/client.ts';
import { freePort } from '../../support/port.ts';
import { type Longshore, startLongshore } from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { leftOut, withTools } from '../../support/tools.ts';
import { type Balancer, startBalancer } from './balancer.ts';

/** Registers tests that need a fleet; where PostgreSQL or the S3 server is missing it says so, or fails. */
export async function withFleet(what: string, register: () => void): Promise<void> {
  if ((await postgresBinaries()) !== undefined) withTools(['versitygw'], what, register);
  else if (process.env.LONGSHORE_TEST_ALL !== '1') leftOut(`${what}: needs PostgreSQL`);
  else
    test(`${what}: the programs it needs are there`, () => {
      throw new Error(`${what}: needs PostgreSQL; \`npm run test:setup\` installs what is missing`);
    });
}

let postgresServer: Promise<TestServer> | undefined;
let s3Server: Promise<S3Server> | undefined;
let count = 0;

/** The one PostgreSQL of this test file. */
export function postgres(): Promise<TestServer> {
  postgresServer ??= startPostgres();
  return postgresServer;
}

/** The one S3 server of this test file. */
export function s3(): Promise<S3Server> {
  s3Server ??= startS3();
  return s3Server;
}

/** Ends both. */
export async function stopEngines(): Promise<void> {
  await Promise.all([(await postgresServer)?.stop(), (await s3Server)?.stop()]);
  postgresServer = undefined;
  s3Server = undefined;
}

/** What every instance of a fleet shares. */
export interface Shared {
  /** An empty database. */
  readonly url: string;
  /** An empty bucket. */
  readonly bucket: S3Settings;
}

/** An empty database and an empty bucket. */
export async function newShared(): Promise<Shared> {
  const [server, store] = await Promise.all([postgres(), s3()]);
  const number = ++count;
  const [url, bucket] = await Promise.all([server.database(`objects${number}`), store.bucket(`fleet-${number}`)]);
  return { url, bucket };
}

/** Sections of a configuration. */
export type Sections = Readonly<Record<string, object>>;

/** The section `storage` for a bucket, with more of it. */
export function storageOf({ driver, ...s3Section }: S3Settings, more: object = {}): object {
  return { driver, s3: s3Section, ...more };
}

/** The configuration of one instance. `more`: sections; those of `storage` are added to what names the bucket. */
export function configOf({ url, bucket }: Shared, more: Sections = {}): Record<string, unknown> {
  return {
    database: { url, connections: 6 },
    access: { anonymous: 'push' },
    server: { trustedProxies: ['127.0.0.1/32'] },
    log: { access: false },
    ...more,
    storage: storageOf(bucket, more.storage),
  };
}

/** A running fleet. */
export interface Fleet {
  readonly shared: Shared;
  /** The instances; a restarted one takes the place of the one that was killed. */
  readonly servers: Longshore[];
  /** A client of each instance. */
  readonly clients: readonly Client[];
  readonly balancer: Balancer;
  /** A client of the balancer. */
  readonly http: Client;
  /** SIGKILL, and the same again on its port and data folder. */
  restart(at: number): Promise<void>;
  /** Ends all as an operator does; throws where one does not end by itself. */
  stop(): Promise<void>;
  /** Ends all at once, whatever they are doing: for tests that have failed. */
  destroy(): Promise<void>;
}

/** How a fleet is started. */
export interface FleetOptions {
  /** Three by default. */
  readonly instances?: number;
  readonly shared?: Shared;
  readonly config?: Sections;
  readonly choose?: (below: number) => number;
}

/** Starts a fleet; all instances at once, so that they make the tables together. */
export async function startFleet(options: FleetOptions = {}): Promise<Fleet> {
  const shared = options.shared ?? (await newShared());
  const config = configOf(shared, options.config);
  const places = await Promise.all(
    Array.from({ length: options.instances ?? 3 }, async () => ({
      port: await freePort(),
      data: temporaryFolder('instance'),
    })),
  );
  const begin = (at: number): Promise<Longshore> => startLongshore({ ...places[at]!, config });
  const servers = await Promise.all(places.map((_, at) => begin(at)));
  const clients = servers.map(({ url }) => client(url, {}, 64));
  const balancer = await startBalancer(
    places.map(({ port }) => port),
    options.choose,
  );
  const http = client(balancer.url, {}, 64);
  const hangUp = async (): Promise<void> => {
    for (const one of [http, ...clients]) one.close();
    await balancer.close();
  };
  return {
    shared,
    servers,
    clients,
    balancer,
    http,
    async restart(at) {
      await servers[at]!.kill();
      for (let tries = 1; ; tries++) {
        try {
          servers[at] = await begin(at);
          return;
        } catch (error) {
          // Its port may be in use for a moment, as the near end of somebody's connection.
          if (tries === 4 || !String(error).includes('EADDRINUSE')) throw error;
          await sleep(500);
        }
      }
    },
    async stop() {
      await hangUp();
      await Promise.all(servers.map((server) => server.stop()));
    },
    async destroy() {
      await hangUp();
      await Promise.all(servers.map((server) => server.kill()));
    },
  };
}

/** The names of all objects in the bucket, as they lie in the S3 server's folder. */
export async function objectsOf({ bucket }: Shared): Promise<string[]> {
  const folder = join((await s3()).root, bucket.bucket);
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)));
}

/** Asks until the answer is right; throws with the last one after `limit` milliseconds. */
export async function until<T>(
  what: string,
  ask: () => Promise<T>,
  right: (answer: T) => boolean,
  limit = 120_000,
): Promise<T> {
  const end = performance.now() + limit;
  for (;;) {
    const answer = await ask();
    if (right(answer)) return answer;
    if (performance.now() > end) throw new Error(`${what}: still ${JSON.stringify(answer)}`);
    await sleep(100);
  }
}
