/**
 * `longshore health`: whether the server of this configuration on this machine is ready, as its exit code. For health
 * commands of containers and units, whose images have no other program that could ask.
 */
import { type RequestOptions, request } from 'node:http';
import type { Configuration } from '../configuration.ts';
import { type Given, UsageError } from './command-line.ts';
import { configurationOf } from './settings.ts';

/** How long the whole question may take, milliseconds. Readiness itself gives up after two seconds. */
const PATIENCE = 5_000;
/** As much of an answer as is read and shown, characters. */
const SHOWN = 1_024;

/** `health`: 0 ready (with `--live`: it answers), 1 not. */
export async function showHealth(given: Given): Promise<number> {
  const { config } = await configurationOf(given);
  const target = targetOf(config);
  const path = given.flags.live === true ? '/livez' : '/readyz';
  let answer: { readonly status: number; readonly text: string };
  try {
    answer = await ask(target, path);
  } catch (error) {
    process.stderr.write(`longshore: ${target.host}:${target.port} does not answer: ${(error as Error).message}\n`);
    return 1;
  }
  const well = answer.status === 200;
  (well ? process.stdout : process.stderr).write(`${answer.text.replace(/[^\x20-\x7e]/g, '?')}\n`);
  return well ? 0 : 1;
}

interface Target {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
}

/** The listener to ask: that of metrics, which never wants a certificate, where there is one. */
function targetOf({ server }: Configuration): Target {
  const { host, port } = server.metricsListen ?? server.listen;
  if (port === 0) throw new UsageError('The configured port is 0, any free one: nobody can know where to ask.');
  const here = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return { host: here, port, tls: server.metricsListen === undefined && server.tls !== undefined };
}

async function ask({ host, port, tls }: Target, path: string): Promise<{ status: number; text: string }> {
  const options: RequestOptions & { readonly rejectUnauthorized: boolean } = {
    host,
    port,
    path,
    agent: false,
    signal: AbortSignal.timeout(PATIENCE),
    // The certificate names the registry, not this address; nothing secret is sent and the answer is shown, not obeyed.
    rejectUnauthorized: false,
  };
  const open = tls ? (await import('node:https')).request : request;
  return new Promise((resolve, reject) => {
    const asked = open(options, (answer) => {
      let text = '';
      answer.setEncoding('latin1');
      answer.on('data', (part: string) => {
        text = (text + part).slice(0, SHOWN);
      });
      answer.on('error', reject);
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }));
    });
    asked.on('error', reject);
    asked.end();
  });
}
