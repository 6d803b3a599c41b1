/** The client side of the REST API for the command line: one request, or all pages of a list. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { clientCredentials } from '../config/client.ts';
import { VERSION } from '../version.ts';
import { type Given, UsageError } from './command-line.ts';
import { configurationOf } from './settings.ts';

/** A refusal, in the server's words. */
export class ServerError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.name = 'ServerError';
    this.status = status;
  }
}

/** A server to speak to. */
export interface Client {
  /** One request; gives the JSON answer, undefined for an empty one. ServerError. */
  ask<T>(method: string, path: string, body?: object): Promise<T>;
  /** All items of a list with pages. */
  all<T>(path: string): Promise<T[]>;
}

const MAX_ANSWER = 16 * 1024 * 1024;
const PATIENCE = 60_000;

/** The server of `--server`, else of the configuration, with the credentials that the environment or Docker has for it. */
export async function clientFor(given: Given): Promise<Client> {
  const base = await serverUrl(given);
  const credentials = clientCredentials(base.host);
  const authorization =
    credentials === undefined
      ? undefined
      : `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')}`;
  const ask = async <T>(method: string, path: string, body?: object): Promise<T> => {
    const { status, text } = await exchange(base, method, path, body, authorization);
    if (status >= 200 && status < 300) return (text === '' ? undefined : json(text)) as T;
    throw refusal(base, status, text, authorization === undefined);
  };
  return {
    ask,
    all: async <T>(path: string) => {
      const items: T[] = [];
      let after: string | undefined;
      do {
        const query = after === undefined ? '' : `&after=${encodeURIComponent(after)}`;
        const page = await ask<{ items: T[]; next?: string }>('GET', `${path}?limit=1000${query}`);
        items.push(...page.items);
        after = page.next;
      } while (after !== undefined);
      return items;
    },
  };
}

async function serverUrl(given: Given): Promise<URL> {
  const { server } = given.flags;
  if (typeof server === 'string') {
    const url = URL.parse(server);
    if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
      throw new UsageError(
        '--server must be an address as in https://registry.example.org, without credentials in it.',
      );
    }
    return url;
  }
  const { server: section } = (await configurationOf(given)).config;
  if (section.tls !== undefined && section.publicUrl !== undefined) return new URL(section.publicUrl);
  const { host, port } = section.listen;
  const here = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  const name = here.includes(':') ? `[${here}]` : here;
  return new URL(`${section.tls === undefined ? 'http' : 'https'}://${name}:${port}`);
}

async function exchange(
  base: URL,
  method: string,
  path: string,
  body: object | undefined,
  authorization: string | undefined,
): Promise<{ status: number; text: string }> {
  const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
  const request = base.protocol === 'https:' ? (await import('node:https')).request : httpRequest;
  const target = new URL(`/api/v1${path}`, base);
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const asked = request(
      target,
      {
        method,
        timeout: PATIENCE,
        headers: {
          accept: 'application/json, application/problem+json',
          'user-agent': `longshore/${VERSION}`,
          ...(authorization === undefined ? {} : { authorization }),
          ...(payload === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': String(payload.length) }),
        },
      },
      resolve,
    );
    asked.on('timeout', () => asked.destroy(new Error('no answer within a minute')));
    asked.on('error', (error: Error) =>
      reject(new Error(`${base.origin} does not answer: ${error.message}`, { cause: error })),
    );
    asked.end(payload);
  });
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of answer as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > MAX_ANSWER) throw new ServerError(502, `${base.origin} answered with more than 16 MiB.`);
    parts.push(part);
  }
  return { status: answer.statusCode ?? 0, text: Buffer.concat(parts).toString('utf8') };
}

function json(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

interface Problem {
  readonly title?: unknown;
  readonly detail?: unknown;
  readonly flaws?: readonly { readonly at?: unknown; readonly message?: unknown }[];
}

/** The server's refusal as a person reads it. Control characters do not reach the terminal. */
function refusal(base: URL, status: number, text: string, anonymous: boolean): ServerError {
  const problem = (json(text) ?? {}) as Problem;
  const said = [problem.detail, problem.title].find((one) => typeof one === 'string') as string | undefined;
  const flaws = Array.isArray(problem.flaws) ? problem.flaws.map(({ at, message }) => `${at}: ${message}`) : [];
  const login =
    status === 401 && anonymous
      ? ' Set LONGSHORE_USERNAME and LONGSHORE_PASSWORD, or use `docker login` without a credential helper.'
      : '';
  const message = [said ?? `${base.origin} answered ${status}.`, ...flaws].join('\n  ') + login;
  return new ServerError(status, plain(message));
}

/** Text from a server without what a terminal would obey. */
export function plain(text: string): string {
  return text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/g, '?');
}

/** The path of a repository. */
export function repositoryPath(name: string): string {
  return `/repositories/${encodeURIComponent(name)}`;
}

/** Columns side by side, each as wide as its widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => plain(row[column] ?? '').length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => plain(cell).padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
