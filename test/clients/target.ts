/**
 * What the client tests work on: one Longshore a test file, started when its first test runs. With
 * LONGSHORE_TEST_TARGET=HOST:PORT another registry is used instead, to see whether a failure is the client's own.
 */
import { readFileSync } from 'node:fs';
import { after } from 'node:test';
import { type Client, client } from '../support/client.ts';
import { type Longshore, startLongshore } from '../support/server.ts';

/** A registry to test against. */
export interface Target {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  /** A client of its `/v2/`, to look at what the tested program did. */
  readonly http: Client;
  /** The started program, unless another registry was named. */
  readonly server?: Longshore;
}

let starting: Promise<Target> | undefined;

async function start(): Promise<Target> {
  const other = process.env.LONGSHORE_TEST_TARGET;
  if (other !== undefined) return { host: other, http: client(`http://${other}`) };
  const server = await startLongshore();
  return { host: server.host, http: client(server.url), server };
}

/** This file's registry. */
export function target(): Promise<Target> {
  starting ??= start();
  return starting;
}

after(async () => {
  const started = await starting;
  started?.http.close();
  await started?.server?.stop();
});

/** The most memory that a process had resident so far, bytes. */
export function peakMemory(pid: number): number {
  const line = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(line?.[1]) * 1024;
}
