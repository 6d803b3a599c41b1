/** Ports of this machine, for servers that tests start. Imports no test runner: children of tests load it too. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';

/** The least port that is given out here. */
const LEAST = 15_000;
const TRIES = 200;

/** Where the ports begin that the system gives to connections and to whoever asks for any. */
function systemPorts(): number {
  try {
    const first = Number.parseInt(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8'), 10);
    return first > LEAST + 1_000 ? first : 32_768;
  } catch {
    return 32_768;
  }
}

async function isFree(port: number): Promise<boolean> {
  const probe = createServer();
  const free = await new Promise<boolean>((done) => {
    probe.once('error', () => done(false));
    probe.listen(port, '127.0.0.1', () => done(true));
  });
  if (free) {
    probe.close();
    await once(probe, 'close');
  }
  return free;
}

/**
 * A port that nobody listens on now, drawn below those that the system gives out itself: so no connection of another
 * test takes it as its near end before a server listens on it, or while that server is away.
 */
export async function freePort(): Promise<number> {
  const count = systemPorts() - LEAST;
  for (let tries = 0; tries < TRIES; tries++) {
    const port = LEAST + Math.floor(Math.random() * count);
    if (await isFree(port)) return port;
  }
  throw new Error(`no port from ${LEAST} to ${LEAST + count} is free`);
}
