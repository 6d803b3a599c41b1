/**
 * PostgreSQL and an S3 server of the run's own, as a production installation has them: every commit of PostgreSQL is
 * synced. What they did is counted: statements and WAL bytes, requests to the store, CPU seconds of both.
 */
import { closeSync, mkdirSync, openSync, readSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { startPostgres } from '../src/database/postgres/server.testing.ts';
import { s3Settings, TEST_KEY, TEST_SECRET } from '../src/storage/s3/server.testing.ts';
import type { S3Settings } from '../src/storage/settings.ts';
import { findTool } from '../test/support/tools.ts';
import { cpuSeconds } from './cpu.ts';
import { folderFor } from './peers.ts';
import { end, freePort, launch, statusOf } from './processes.ts';
import type { Context } from './types.ts';

/** What both did since they were started: statements, WAL and requests for one peer, CPU for all. */
export interface EngineCounts {
  readonly statements: number;
  /** Bytes. */
  readonly wal: number;
  readonly requests: number;
  /** CPU seconds. */
  readonly postgres: number;
  readonly store: number;
}

/** The running engines. */
export interface Engines {
  /** An empty database. */
  database(name: string): Promise<string>;
  /** An empty bucket. */
  bucket(name: string): S3Settings;
  /** For the database and the bucket of this name. */
  count(name: string): Promise<EngineCounts>;
  /** Rows of a query in a database of `database`. */
  query(name: string, text: string): Promise<Record<string, unknown>[]>;
  /** Requests to the store by their operation since it was started. */
  operations(): Record<string, number>;
  stop(): Promise<void>;
}

/** Settings behind those of the tests: durable as in production, and with the counters. */
const SETTINGS = [
  'fsync=on',
  'full_page_writes=on',
  'synchronous_commit=on',
  'deadlock_timeout=1s',
  'shared_buffers=256MB',
  'max_wal_size=2GB',
  'shared_preload_libraries=pg_stat_statements',
  'track_activity_query_size=1024',
];

/** Starts both. Throws where a program is missing. */
export async function startEngines(context: Context): Promise<Engines> {
  const program = findTool('versitygw');
  if (program === undefined) throw new Error('versitygw is not there: npm run test:setup installs it');
  const postgres = await startPostgres();
  const clients = new Map<string, Client>();
  const ask = async (name: string, text: string): Promise<Record<string, unknown>[]> => {
    let client = clients.get(name);
    if (client === undefined) {
      client = new Client({ connectionString: postgres.url.replace(/[^/]*$/, name) });
      client.on('error', () => undefined);
      await client.connect();
      clients.set(name, client);
    }
    return (await client.query<Record<string, unknown>>(text)).rows;
  };
  const folder = folderFor(context, 's3');
  const [root, log, output] = [join(folder, 'buckets'), join(folder, 'access.log'), join(folder, 'output.log')];
  try {
    await postgres.restart(SETTINGS);
    await ask('postgres', 'create extension if not exists pg_stat_statements');
    mkdirSync(root);
    const port = await freePort();
    const at = ['--port', `127.0.0.1:${port}`, '--access', TEST_KEY, '--secret', TEST_SECRET];
    const args = [...at, '--quiet', '--keep-alive', '--access-log', log, 'posix', root];
    const child = launch(program, args, output);
    const endpoint = `http://127.0.0.1:${port}`;
    for (let wait = 0; (await statusOf(endpoint)) === undefined; wait++) {
      if (wait > 200 || child.exitCode !== null) throw new Error('versitygw does not start');
      await sleep(50);
    }
    const pidOf = async () => Number((await ask('postgres', POSTMASTER))[0]?.pid);
    const postmaster = await pidOf();
    return {
      database: (name) => postgres.database(name),
      bucket(name) {
        mkdirSync(join(root, name), { recursive: true });
        return s3Settings(endpoint, name);
      },
      query: ask,
      async count(name) {
        const [row] = await ask('postgres', countsOf(name));
        return {
          statements: Number(row?.statements),
          wal: Number(row?.wal),
          requests: requestsTo(name, log),
          postgres: cpuSeconds(postmaster),
          store: cpuSeconds(child.pid ?? 0),
        };
      },
      operations: () => operationsOf(log),
      async stop() {
        await end(child);
        await Promise.allSettled([...clients.values()].map((client) => client.end()));
        await postgres.stop();
        rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
      },
    };
  } catch (error) {
    await Promise.allSettled([...clients.values()].map((client) => client.end()));
    await postgres.stop();
    throw error;
  }
}

const POSTMASTER = `select (regexp_match(pg_read_file('postmaster.pid'), '^\\d+'))[1] as pid`;
/** WAL is that of the statements, without the few bytes of each commit. */
const countsOf = (name: string): string =>
  `select coalesce(sum(calls), 0) as statements, coalesce(sum(wal_bytes), 0) as wal
   from pg_stat_statements s join pg_database d on d.oid = s.dbid where d.datname = '${name}'`;

function read(file: string, from: number, take: (bytes: Buffer) => void): void {
  let handle: number;
  try {
    handle = openSync(file, 'r');
  } catch {
    return;
  }
  const buffer = Buffer.allocUnsafe(1024 * 1024);
  try {
    for (let at = from, length: number; (length = readSync(handle, buffer, 0, buffer.length, at)) > 0; at += length) {
      take(buffer.subarray(0, length));
    }
  } finally {
    closeSync(handle);
  }
}

const known = new Map<string, { at: number; rest: string; counts: Map<string, number> }>();

/** Lines of the log in S3's format: owner, bucket, time, … */
function requestsTo(bucket: string, file: string): number {
  let kept = known.get(file);
  if (kept === undefined) known.set(file, (kept = { at: 0, rest: '', counts: new Map() }));
  const { counts } = kept;
  read(file, kept.at, (bytes) => {
    const lines = (kept.rest + bytes.toString('latin1')).split('\n');
    kept.rest = lines.pop() ?? '';
    kept.at += bytes.length;
    for (const line of lines) {
      const [, name = ''] = line.split(' ', 2);
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  });
  return counts.get(bucket) ?? 0;
}

function operationsOf(file: string): Record<string, number> {
  const counts: Record<string, number> = {};
  const texts: string[] = [];
  read(file, 0, (bytes) => void texts.push(bytes.toString('latin1')));
  for (const [operation] of texts.join('').matchAll(/\b(?:REST|WEBSITE)\.[A-Z_.]+/g)) {
    counts[operation] = (counts[operation] ?? 0) + 1;
  }
  return counts;
}
