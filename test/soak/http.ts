/** A worker's requests: at any instance, bodies checked by digest, the last ones kept for whoever reads a failure. */
import { createHash } from 'node:crypto';
import type { Answer, Ask, Client } from '../support/client.ts';
import { TYPES } from '../support/images.ts';
import type { Choices } from '../support/random.ts';

/** Requests that are kept for a failure's text. */
const KEPT = 30;
const ACCEPT = [TYPES.manifest, TYPES.index].join(', ');

/** An answer and when its request left (`performance.now()`). */
export interface Timed extends Answer {
  readonly sent: number;
}

/** Requests of one worker. */
export interface Requests {
  send(method: string, path: string, ask?: Ask, at?: Client): Promise<Timed>;
  /** GET of content: follows a redirect to the object store. `digest`: of the bytes that came. */
  get(path: string): Promise<Timed & { readonly digest: string }>;
  /** The path of an upload's Location. */
  location(answer: Answer, digest?: string): string;
  /** The last requests, as text. */
  recent(): string;
}

/** Requests that go to clients in turn as chance has it. */
export function requests(clients: readonly Client[], random: Choices, count: (what: string) => void): Requests {
  const kept: string[] = [];
  const note = (line: string): void => {
    kept.push(line);
    if (kept.length > KEPT) kept.shift();
  };
  const send: Requests['send'] = async (method, path, ask = {}, at = random.pick(clients)!) => {
    const sent = performance.now();
    const what = `${(sent / 1000).toFixed(3)} ${clients.indexOf(at)} ${method} ${path.slice(0, 240)}`;
    try {
      const answer = await at.send(method, path, ask);
      const took = (performance.now() - sent).toFixed(0);
      note(
        `${what} → ${answer.status} (${took} ms)${answer.status >= 400 ? ` ${answer.body.toString().slice(0, 300)}` : ''}`,
      );
      count('requests');
      return { ...answer, sent };
    } catch (error) {
      note(`${what} → ${error}`);
      throw error;
    }
  };
  return {
    send,
    async get(path) {
      let answer = await send('GET', path, { headers: { accept: ACCEPT } });
      if (answer.status === 307) {
        const sent = performance.now();
        const got = await fetch(String(answer.headers.location));
        answer = { status: got.status, headers: answer.headers, body: Buffer.from(await got.arrayBuffer()), sent };
        note(`  ${(sent / 1000).toFixed(3)} redirected → ${got.status}`);
        count('redirects');
      }
      return { ...answer, digest: `sha256:${createHash('sha256').update(answer.body).digest('hex')}` };
    },
    location(answer, digest) {
      const target = new URL(answer.headers.location ?? '', clients[0]!.url);
      if (digest !== undefined) target.searchParams.set('digest', digest);
      return target.pathname + target.search;
    },
    recent: () => kept.join('\n    '),
  };
}
