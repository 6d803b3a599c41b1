/** Small GETs by wrk. Where it is not there, by the bare-socket load of load/requests.ts. */
import { execFile } from 'node:child_process';
import { ACCEPT } from './bytes.ts';
import { cpuSeconds } from './cpu.ts';
import { type Driven, drive } from './drive.ts';
import { remember } from './processes.ts';
import type { Tools } from './types.ts';

/** What is asked for again and again. */
export interface Small {
  readonly url: string;
  readonly pid: number;
  readonly path: string;
  readonly token?: string | undefined;
  readonly connections: number;
  /** Whole seconds. */
  readonly seconds: number;
}

const UNIT: Readonly<Record<string, number>> = { us: 1e-3, ms: 1, s: 1_000, m: 60_000 };

function latency(output: string, part: string): number {
  const [, value, unit] = new RegExp(`^\\s+${part}%\\s+([\\d.]+)(us|ms|s|m)\\s*$`, 'm').exec(output) ?? [];
  return value === undefined ? Number.NaN : Number(value) * UNIT[unit ?? 'ms']!;
}

/** GETs; wrong answers throw. */
export async function getSmall(small: Small, tools: Tools): Promise<Driven> {
  const { url, pid, path, token, connections, seconds } = small;
  if (tools.wrk === undefined) {
    const bearer = token === undefined ? {} : { token };
    return drive({ kind: 'requests', method: 'GET', url, path, connections, seconds, ...bearer }, pid);
  }
  const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--latency', '--timeout', '10s', '-H', `Accept: ${ACCEPT}`];
  if (token !== undefined) args.push('-H', `Authorization: Bearer ${token}`);
  const before = cpuSeconds(pid);
  const output = await new Promise<string>((done, fail) => {
    const options = { timeout: (seconds + 30) * 1000, killSignal: 'SIGKILL' as const };
    remember(
      execFile(tools.wrk!, [...args, `${url}${path}`], options, (error, text) => (error ? fail(error) : done(text))),
    );
  });
  const cpu = cpuSeconds(pid) - before;
  const [, count, took, unit] = /^\s+(\d+) requests in ([\d.]+)(ms|s|m),/m.exec(output) ?? [];
  if (count === undefined || took === undefined) throw new Error(`wrk said something else: ${output.slice(0, 500)}`);
  const wrong = /^\s*(Non-2xx or 3xx responses: \d+|Socket errors: .*)$/m.exec(output)?.[1];
  if (wrong !== undefined) throw new Error(`wrk: ${wrong}`);
  const taken = (Number(took) * UNIT[unit ?? 's']!) / 1000;
  return {
    seconds: taken,
    count: Number(count),
    bytes: 0,
    p50: latency(output, '50'),
    p99: latency(output, '99'),
    worst: Number.NaN,
    errors: 0,
    cpu,
  };
}

/** HEADs, by bare sockets on every peer. */
export function headSmall(small: Small & { readonly tags?: number }): Promise<Driven> {
  const { url, pid, path, token, connections, seconds, tags } = small;
  const more = { ...(token === undefined ? {} : { token }), ...(tags === undefined ? {} : { tags }) };
  return drive({ kind: 'requests', method: 'HEAD', url, path, connections, seconds, ...more }, pid);
}
