/** A lean registry client over one kept connection: pushes and pulls as a client would, every answer checked. */
import { readFileSync } from 'node:fs';
import { type IncomingHttpHeaders, type OutgoingHttpHeaders, Agent as PlainAgent, request as plain } from 'node:http';
import { Agent as EncryptedAgent, request as encrypted } from 'node:https';
import type { Blob, Manifest } from './bytes.ts';

/** No request takes longer than this, milliseconds. */
const PATIENCE = 60_000;

/** An answer whose body was read. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** What is sent besides method and path. */
export interface Sent {
  readonly headers?: OutgoingHttpHeaders;
  readonly parts?: readonly Buffer[];
  /** The statuses that are right; another one throws. Absent: any of 2xx. */
  readonly expect?: readonly number[];
}

/** One connection to a registry (more only where asked for). */
export interface Client {
  readonly url: string;
  ask(method: string, path: string, sent?: Sent): Promise<Answer>;
  close(): void;
}

/** `connections`: how many may be open at once. */
export function openClient(url: string, options: { ca?: string; connections?: number } = {}): Client {
  const secure = url.startsWith('https:');
  const settings = { keepAlive: true, maxSockets: options.connections ?? 1, noDelay: true };
  const agent = secure
    ? new EncryptedAgent({ ...settings, ...(options.ca === undefined ? {} : { ca: readFileSync(options.ca) }) })
    : new PlainAgent(settings);
  const start = secure ? encrypted : plain;
  return {
    url,
    ask: (method, path, { headers = {}, parts = [], expect } = {}) =>
      new Promise((done, fail) => {
        const length = parts.reduce((sum, part) => sum + part.length, 0);
        const counted = parts.length > 0 || method === 'POST' || method === 'PUT' || method === 'PATCH';
        const outgoing = counted ? { ...headers, 'content-length': length } : headers;
        const asked = start(new URL(path, url), { agent, method, headers: outgoing }, (answer) => {
          const chunks: Buffer[] = [];
          answer.on('data', (chunk: Buffer) => chunks.push(chunk));
          answer.on('error', fail);
          answer.on('end', () => {
            const status = answer.statusCode ?? 0;
            const body = Buffer.concat(chunks);
            if (expect === undefined ? status >= 200 && status < 300 : expect.includes(status)) {
              done({ status, headers: answer.headers, body });
            } else {
              fail(new Error(`${method} ${path.split('?')[0]} answered ${status}: ${body.toString().slice(0, 300)}`));
            }
          });
        });
        asked.setTimeout(PATIENCE, () => asked.destroy(new Error(`${method} ${path} took over ${PATIENCE / 1000} s`)));
        asked.on('error', fail);
        for (const part of parts) asked.write(part);
        asked.end();
      }),
    close: () => agent.destroy(),
  };
}

function locationOf(answer: Answer): string {
  const { location } = answer.headers;
  if (location === undefined) throw new Error('an upload without Location');
  if (location.startsWith('/')) return location;
  const { pathname, search } = new URL(location);
  return pathname + search;
}

const OCTETS = { 'content-type': 'application/octet-stream' };

/** POST; PATCH for each `chunk` bytes where that is given; PUT. */
export async function pushBlob(client: Client, repository: string, blob: Blob, chunk?: number): Promise<void> {
  let location = locationOf(await client.ask('POST', `/v2/${repository}/blobs/uploads/`, { expect: [202] }));
  let rest: readonly Buffer[] = blob.parts;
  if (chunk !== undefined) {
    const [body, tail] = blob.parts;
    for (let from = 0; from < blob.size; from += chunk) {
      const to = Math.min(from + chunk, blob.size);
      const parts = [body.subarray(from, Math.min(to, body.length))];
      if (to > body.length) parts.push(tail.subarray(Math.max(0, from - body.length), to - body.length));
      const headers = { ...OCTETS, 'content-range': `${from}-${to - 1}` };
      location = locationOf(await client.ask('PATCH', location, { headers, parts, expect: [202] }));
    }
    rest = [];
  }
  const target = `${location}${location.includes('?') ? '&' : '?'}digest=${encodeURIComponent(blob.digest)}`;
  await client.ask('PUT', target, { headers: OCTETS, parts: rest, expect: [201] });
}

/** By tag or digest; `query` as in `?tag=a&tag=b`. */
export async function pushManifest(
  client: Client,
  repository: string,
  reference: string,
  manifest: Pick<Manifest, 'bytes' | 'mediaType'>,
  query = '',
): Promise<void> {
  await client.ask('PUT', `/v2/${repository}/manifests/${reference}${query}`, {
    headers: { 'content-type': manifest.mediaType },
    parts: [manifest.bytes],
    expect: [201],
  });
}

/** Calls `work` for 0 … count−1, at most `width` at a time; the first error ends it. */
export async function each(count: number, width: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: Math.min(width, count) }, lane));
}
