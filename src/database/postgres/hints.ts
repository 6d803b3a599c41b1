/**
 * Hints between processes that share a database, by LISTEN and NOTIFY. A hint spares polling and shortens the life of
 * what is cached for a while anyway; nothing is ever believed because no hint came. It arrives after the commit that
 * it tells of was acknowledged, so a cache of manifests that trusted it would answer for a moment what is deleted
 * (threats.md I7): every pull asks the database instead.
 *
 * One connection a process listens, and gives the watch its sign of life. NOTIFY inside a transaction takes a lock of
 * the whole server until the commit, which would end the grouping of commits: only rare commands do that, by
 * `Command.tells`; hints of work are sent by themselves, at most once a second.
 */

import { backoff } from '../../kit/backoff.ts';
import { after, type Clock, every } from '../../kit/clock.ts';
import { randomId } from '../../kit/id.ts';
import type { Log } from '../../kit/log.ts';
import { FaultError } from '../../oci/error.ts';
import type { Hints, HintTopic } from '../database.ts';
import { type Link, openLink } from './link.ts';

const CHANNEL = 'longshore_hint';
const TOPICS: readonly HintTopic[] = ['access', 'jobs'];
/** A process tells a topic at most this often. */
const TELL_MILLISECONDS = 1_000;
/** How often the connection is asked whether it still is there, and how long that may take. */
const CHECK_MILLISECONDS = 5_000;
const CONNECT_MILLISECONDS = 1_500;
const LONGEST_PAUSE = 5_000;

/** What hints stand on. */
export interface HintParts {
  readonly url: string;
  readonly clock: Clock;
  readonly log: Log;
  /** The server answered something on the listening connection. */
  heard(): void;
  /** Runs a statement on another connection. */
  send(text: string, channel: string, payload: string): Promise<unknown>;
}

/** Hints over one connection, which is made when somebody listens. */
export class PostgresHints implements Hints {
  readonly #parts: HintParts;
  readonly #own = Buffer.from(randomId(9)).toString('base64url');
  readonly #listeners = new Map<HintTopic, Set<() => void>>();
  readonly #told = new Map<HintTopic, { again: boolean; readonly stop: () => void }>();
  #link: Link | undefined;
  #opening: Promise<Link> | undefined;
  #listening = false;
  #failures = 0;
  #stopCheck: (() => void) | undefined;
  #stopPause: (() => void) | undefined;
  #closed = false;

  constructor(parts: HintParts) {
    this.#parts = parts;
  }

  get arrive(): boolean {
    return this.#listening;
  }

  readonly on = (topic: HintTopic, listener: () => void): (() => void) => {
    const own = (): void => listener();
    let all = this.#listeners.get(topic);
    if (all === undefined) this.#listeners.set(topic, (all = new Set()));
    all.add(own);
    if (this.#stopCheck === undefined && !this.#closed) {
      this.#stopCheck = every(CHECK_MILLISECONDS, () => void this.#check());
      void this.#listen();
    }
    return () => all.delete(own);
  };

  readonly tell = (topic: HintTopic): void => {
    const told = this.#told.get(topic);
    if (this.#closed) return;
    if (told !== undefined) {
      told.again = true;
      return;
    }
    const stop = after(TELL_MILLISECONDS, () => {
      const again = this.#told.get(topic)?.again === true;
      this.#told.delete(topic);
      if (again) this.tell(topic);
    });
    this.#told.set(topic, { again: false, stop });
    this.#parts.send('select pg_notify(?, ?)', CHANNEL, this.#payload(topic)).catch((error: Error) => {
      this.#parts.log.debug('a hint to other processes was lost', { topic, error });
    });
  };

  /** The statement that tells at a commit. */
  readonly telling = (topic: HintTopic): string => `select pg_notify('${CHANNEL}', '${this.#payload(topic)}'); `;

  /** Whether the server answers at all, on a connection that nobody else uses. Rejects where it does not. */
  readonly probe = async (): Promise<void> => {
    const link = this.#link ?? (await this.#open());
    await link.query({ text: 'select 1' });
    if (this.#stopCheck === undefined) this.#forget(link);
  };

  async close(): Promise<void> {
    this.#closed = true;
    this.#listening = false;
    this.#stopCheck?.();
    this.#stopPause?.();
    for (const { stop } of this.#told.values()) stop();
    await this.#opening?.catch(() => undefined);
    await this.#link?.end();
  }

  #payload(topic: HintTopic): string {
    return `${topic} ${this.#own}`;
  }

  #open(): Promise<Link> {
    if (this.#closed) return Promise.reject(new FaultError('unavailable', 'The database is closing.'));
    const events = { heard: this.#parts.heard, broke: (link: Link, error: Error) => this.#broke(link, error) };
    const { url } = this.#parts;
    this.#opening ??= openLink({ url, connectMilliseconds: CONNECT_MILLISECONDS }, events)
      .then((link) => {
        link.client.on('notification', ({ payload }) => this.#arrived(payload));
        this.#link = link;
        return link;
      })
      .finally(() => {
        this.#opening = undefined;
      });
    return this.#opening;
  }

  /** Listens; whatever happened until the server confirmed it was missed, so everybody is told. */
  async #listen(): Promise<void> {
    try {
      const link = this.#link ?? (await this.#open());
      await link.query({ text: `listen ${CHANNEL}` });
    } catch (error) {
      this.#again(error as Error);
      return;
    }
    if (this.#closed) return;
    if (this.#failures > 0) this.#parts.log.info('hints of other processes arrive again');
    this.#failures = 0;
    this.#listening = true;
    for (const topic of TOPICS) this.#call(topic);
  }

  #again(error: Error): void {
    this.#listening = false;
    if (this.#closed || this.#stopPause !== undefined) return;
    if (this.#failures++ === 0) this.#parts.log.warn('hints of other processes do not arrive', { error });
    this.#stopPause = after(backoff(this.#failures, 100, LONGEST_PAUSE), () => {
      this.#stopPause = undefined;
      void this.#listen();
    });
  }

  async #check(): Promise<void> {
    const link = this.#link;
    if (link === undefined || !this.#listening) return;
    // The one before is still waiting: the connection is gone without a word.
    if (link.pending > 0) link.fail(new Error('PostgreSQL does not answer on the listening connection.'));
    else await link.query({ text: 'select 1' }).catch(() => undefined);
  }

  #broke(link: Link, error: Error): void {
    if (this.#link !== link) return;
    this.#link = undefined;
    if (this.#stopCheck !== undefined) this.#again(error);
  }

  #forget(link: Link): void {
    if (this.#link === link) this.#link = undefined;
    void link.end();
  }

  #arrived(payload: string | undefined): void {
    const [topic, from] = (payload ?? '').split(' ');
    if (from === this.#own) return;
    const known = TOPICS.find((one) => one === topic);
    if (known !== undefined) this.#call(known);
  }

  #call(topic: HintTopic): void {
    for (const listener of this.#listeners.get(topic) ?? []) listener();
  }
}
