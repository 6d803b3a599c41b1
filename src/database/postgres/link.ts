/**
 * One connection to PostgreSQL. It knows whether it can still be used: once its socket broke, the server shut it down,
 * or the server turned read-only, it answers nothing more and is dropped by the pool.
 */
import { Socket } from 'node:net';
import { Client, type QueryConfig, type QueryResult } from 'pg';
import { FaultError } from '../../oci/error.ts';
import { endsConnection, sqlState } from './faults.ts';
import { typeParsers } from './types.ts';

/** How connections are made. `url` may hold a password: it is never part of a message. */
export interface LinkOptions {
  readonly url: string;
  /** Milliseconds until a connection must be there. */
  readonly connectMilliseconds: number;
  /** Looks at the database behind the new connection; rejects where it is not one to be used. */
  admit?(link: Link): Promise<void>;
}

/** What a link tells its owner. */
export interface LinkEvents {
  /** The server answered something. */
  heard(): void;
  /** It broke by itself; called once, and not after `destroy`. */
  broke(link: Link, error: Error): void;
}

/** What the server is told at the start of each connection: nothing there may hang for ever either. */
const SETTINGS = {
  application_name: 'longshore',
  statement_timeout: 30_000,
  // Longer than the server takes to find a deadlock, shorter than a client waits.
  lock_timeout: 1_500,
  // A process that stops in a transaction holds locks of others for so long.
  idle_in_transaction_session_timeout: 10_000,
};

/** An open connection; `openLink` makes it. */
export class Link {
  readonly #client: Client;
  readonly #socket: Socket;
  readonly #events: LinkEvents;
  #dead: Error | undefined;
  #destroyed = false;
  /** Statements without their answer. */
  pending = 0;
  /** Looks of the watch since something was heard here while statements were pending. */
  silent = 0;
  /** After how many of them it is given up; the pool sets it with each use. */
  patience = 0;
  /** In the pool: which generation of connections it belongs to, and when it was last used. */
  generation = 0;
  usedAt = 0;

  constructor(client: Client, socket: Socket, events: LinkEvents) {
    this.#client = client;
    this.#socket = socket;
    this.#events = events;
  }

  /** Why nothing can be asked any more. */
  get dead(): Error | undefined {
    return this.#dead;
  }

  /** The client, for what only a connection of one's own does: notifications and COPY. */
  get client(): Client {
    return this.#client;
  }

  /** Runs a statement; rejects with what `pg` throws. */
  query(config: QueryConfig): Promise<QueryResult> {
    return new Promise((resolve, reject) => {
      if (this.#dead !== undefined) return reject(this.#dead);
      this.pending++;
      this.#client.query(config, (error: Error | null, result: QueryResult) => {
        this.pending--;
        this.silent = 0;
        if (error === null || error === undefined) {
          this.#events.heard();
          return resolve(result);
        }
        if (sqlState(error) !== undefined) this.#events.heard();
        if (endsConnection(error)) this.fail(error);
        reject(this.#destroyed ? (this.#dead ?? error) : error);
      });
    });
  }

  /** It broke: tells the owner, once. */
  fail(error: Error): void {
    if (this.#dead !== undefined) return;
    this.destroy(error);
    this.#events.broke(this, error);
  }

  /** Ends it at once; whatever is pending rejects with `why`. */
  destroy(why: Error): void {
    this.#dead ??= why;
    this.#destroyed = true;
    this.#socket.destroy();
  }

  /** Says goodbye to the server, and waits a moment for it. */
  async end(): Promise<void> {
    if (this.#dead !== undefined) return;
    this.#dead = new FaultError('unavailable', 'The database is closing.');
    this.#socket.setTimeout(1_000, () => this.#socket.destroy());
    await this.#client.end();
  }
}

/** Connects. Rejects with what `pg` throws, or FaultError `unavailable` where the server is a read-only standby. */
export async function openLink(options: LinkOptions, events: LinkEvents): Promise<Link> {
  const socket = new Socket();
  const client = new Client({
    ...SETTINGS,
    connectionString: options.url,
    connectionTimeoutMillis: options.connectMilliseconds,
    keepAlive: true,
    // Statements are sent while those before them are still unanswered, in the order of the calls.
    pipeline: true,
    stream: () => socket,
    types: typeParsers as never,
  });
  const link = new Link(client, socket, events);
  client.on('error', (error: Error) => link.fail(error));
  client.on('end', () => link.fail(new Error('PostgreSQL ended the connection.')));
  const late = Promise.withResolvers<never>();
  socket.setTimeout(options.connectMilliseconds, () => {
    const error = new Error('PostgreSQL did not answer in time.');
    link.destroy(error);
    late.reject(error);
  });
  try {
    await Promise.race([client.connect(), late.promise]);
    const asked = client.query<{ mode: string }>("select current_setting('transaction_read_only') as mode");
    const { rows } = await Promise.race([asked, late.promise]);
    if (rows[0]?.mode === 'on') throw readOnly();
    if (options.admit !== undefined) await Promise.race([options.admit(link), late.promise]);
  } catch (error) {
    link.destroy(error as Error);
    throw error;
  }
  socket.setTimeout(0);
  events.heard();
  return link;
}

/** What a server that takes no changes is: a standby after a failover, or one that is being looked after. */
export function readOnly(): FaultError {
  return new FaultError('unavailable', 'PostgreSQL takes no changes at the moment: it is a standby, or read-only.', {
    retryAfterSeconds: 2,
  });
}
