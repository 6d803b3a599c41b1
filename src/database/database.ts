/**
 * The database as the rest of the program sees it: commands in, rows out. `run` is the only place in the program
 * where a transaction begins or ends. Every method throws FaultError, and `run` passes on the RegistryError that a
 * command threw (across the thread too).
 */
import type { Kysely, Transaction } from 'kysely';
import type { Lease } from '../kit/facts.ts';
import type { BlobState, Digest, MediaType, RepositoryName, Tag } from '../oci/names.ts';
import type { Tables } from './schema.ts';

/** What a statement takes and gives. Integers beyond 2^53 throw; a boolean is 0 or 1. */
export type Value = string | number | Uint8Array | null;

/**
 * Prepared statements by their text, one text for both databases: parameters are `?` in order; what stands in
 * `{braces}` is for PostgreSQL only (lock clauses). A text must be a constant: it is prepared once and kept.
 */
export interface Statements {
  /** All rows. The caller bounds them by a limit in the text. */
  all<Row>(text: string, ...values: readonly Value[]): Promise<Row[]>;
  /** The first row, or undefined. */
  get<Row>(text: string, ...values: readonly Value[]): Promise<Row | undefined>;
  /** How many rows changed. */
  run(text: string, ...values: readonly Value[]): Promise<number>;
}

/** What a command has in its transaction, and nothing else: a query on the outer database inside it waits for ever. */
export interface CommandContext {
  readonly sql: Statements;
  /** For what is built at run time; slower than `sql`. */
  readonly trx: Transaction<Tables>;
  readonly dialect: 'sqlite' | 'postgres';
  /** Whether other hosts use it at the same time: then transactions that lock many rows are kept short, and work of others is looked for. */
  readonly shared: boolean;
  /** Wall milliseconds, once a command: from the clock, on PostgreSQL from the server. For display and retention. */
  readonly now: number;
  /** Time the server was up, in ticks. All that ends in deletion is counted in it. */
  readonly tick: number;
  /** The collector's settings, in ticks: grace G, undelete window, upload lifetime. */
  readonly ticks: Ticks;
  /** A row of the outbox in this transaction; `events/emit.ts` types it. `repositoryId` 0: none. */
  outbox(type: string, repositoryId: number, payload: object): Promise<void>;
}

/** Ticks, all at least 1 (decisions.md 11). */
export interface Ticks {
  readonly grace: number;
  readonly undelete: number;
  readonly uploadLifetime: number;
}

/** `touched`: repositories whose tags, manifests or links changed; caches drop them before any promise of the batch resolves. */
export interface Outcome<Result> {
  readonly result: Result;
  readonly touched: readonly RepositoryName[];
}

/**
 * A named function, one transaction, plain data in and out (structured-clonable), only SQL inside. Thrown
 * RegistryErrors roll it back alone. Listed in `commands.ts`, so that the writer thread finds it by its name.
 */
export interface Command<Args, Result> {
  readonly name: string;
  /** What other processes on the same database hear of at the commit; for commands that are rare. */
  readonly tells?: HintTopic;
  /** `side`: the second SQLite file (job leases, pull counts), whose commits do not disturb the caches. */
  readonly file?: 'main' | 'side';
  /** Makes the database grow and frees nothing: refused as `full` while the disk of SQLite has next to no room. */
  readonly grows?: true;
  run(context: CommandContext, args: Args): Promise<Outcome<Result>>;
}

// biome-ignore lint/suspicious/noExplicitAny: a list of commands of many arguments.
export type CommandList = readonly Command<any, any>[];

/** `request` goes before `job`. */
export interface RunOptions {
  readonly lane?: 'request' | 'job';
  readonly lease?: Lease;
}

/** A live manifest with its bytes. */
export interface HotManifest {
  readonly digest: Digest;
  readonly mediaType: MediaType;
  readonly bytes: Uint8Array;
}

/** A blob that is linked in the repository. */
export interface HotBlob {
  readonly size: number;
  readonly state: BlobState;
  /** The key's number; the key is `blobKey(digest, n)`. */
  readonly n: number;
  /** Whether storage has the bytes under that key. */
  readonly stored: boolean;
  /** The inline bytes, where the row has them. */
  readonly bytes?: Uint8Array;
  /** When the collector reviews the link, if it is queued; with `tick`, what HEAD needs (threats.md §2.5). */
  readonly dueTick?: number;
  readonly tick: number;
}

/** An upload's row. */
export interface HotUpload {
  readonly repository: RepositoryName;
  readonly principal: string;
  readonly size: number;
  /** JSON, opaque to the database. */
  readonly state: string;
  readonly fence: number;
}

/** The bounded look-ups of the request loop, compiled once. */
export interface Hot {
  manifestByTag(repository: RepositoryName, tag: Tag): Promise<HotManifest | undefined>;
  manifestByDigest(repository: RepositoryName, digest: Digest): Promise<HotManifest | undefined>;
  /** Undefined unless the link is there; `state` tells whether it is live. */
  blobByLink(repository: RepositoryName, digest: Digest): Promise<HotBlob | undefined>;
  /** `id`: the upload's row id (bytes). */
  uploadById(id: Uint8Array): Promise<HotUpload | undefined>;
}

/** What is worth a hint: accounts or rights changed; there is work in the queue that is due. */
export type HintTopic = 'access' | 'jobs';

/** Hints between processes that share a database: best effort, they only spare waiting. */
export interface Hints {
  /** Whether they arrive at the moment. Where not, ask more often. */
  readonly arrive: boolean;
  /** Tells the other processes, at most once a second; never fails. */
  tell(topic: HintTopic): void;
  /** Called when another process told, and whenever some may have been missed. Returns the unsubscription. */
  on(topic: HintTopic, listener: () => void): () => void;
}

/** A database that is open and migrated. */
export interface Database {
  readonly dialect: 'sqlite' | 'postgres';
  /** Whether other hosts use it at the same time: what they do is looked for, and nothing cached is believed. */
  readonly shared: boolean;
  readonly hot: Hot;
  /** Everything that is not hot: in a reader thread (SQLite) or the pool. */
  readonly read: Pick<Kysely<Tables>, 'selectFrom' | 'with' | 'fn'>;
  /** The same by text, for reads that are asked often. */
  readonly query: Pick<Statements, 'all' | 'get'>;
  readonly ticks: Ticks;
  /** Absent where nobody else could tell anything. */
  readonly hints?: Hints;
  run<Args, Result>(command: Command<Args, Result>, args: Args, options?: RunOptions): Promise<Result>;
  /** Called with the repositories that a batch touched, before any promise of that batch resolves. Returns the unsubscription. */
  onTouched(listener: (repositories: readonly RepositoryName[]) => void): () => void;
  /**
   * Undefined where `onTouched` is enough (this process has the only writer). Else a number that differs after any
   * commit by another process: what was cached under another number must be looked up again.
   */
  dataVersion(): number | undefined;
  /** FaultError `unavailable` where the database does not answer within 2 s. */
  ping(): Promise<void>;
  /** Flushes the writer and closes. */
  close(): Promise<void>;
}
