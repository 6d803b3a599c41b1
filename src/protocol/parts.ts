/** What the protocol room is given, and what it gives for each request: the line of the access log. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Authenticator, Peer } from '../access/access.ts';
import type { TransferBuffers } from '../kit/buffers.ts';
import type { Clock } from '../kit/clock.ts';
import type { Log, Metrics } from '../kit/log.ts';
import type { RepositoryName } from '../oci/names.ts';
import type { Action, Call } from '../registry/call.ts';
import type { Registry } from '../registry/registry.ts';
import type { AccessEntry } from '../telemetry/access-log.ts';

/** Node's request, or the HTTP/2 one, which has the same face for all that is used here. */
export type Request = IncomingMessage;
/** Node's response, or the HTTP/2 one. */
export type Response = ServerResponse;

/** What is needed of an HTTP/2 stream besides that face. */
export interface Http2Stream {
  readonly closed: boolean;
  readonly destroyed: boolean;
  readonly endAfterHeaders: boolean;
  close(code: number): void;
}

/** The stream of an HTTP/2 request; undefined for HTTP/1. */
export function streamOf(request: Request): Http2Stream | undefined {
  return request.httpVersionMajor === 1 ? undefined : (request as unknown as { stream: Http2Stream }).stream;
}

/** The other end, trusted proxies already considered. */
export interface ProtocolPeer extends Peer {
  /** The host that the client asked for, validated; with the port. */
  readonly host: string;
  readonly scheme: 'http' | 'https';
}

/** One line per request, made when its answer is complete or broken off. Its path is cut at 512 characters, its agent at 256. */
export type AccessLine = AccessEntry;

/** Every bound of the room. Sizes are bytes. */
export interface ProtocolLimits {
  /** Request target: 414 beyond. */
  readonly targetBytes: number;
  /** One manifest: 413 beyond. */
  readonly manifestBytes: number;
  /** One blob: 413 beyond, where its length is announced. */
  readonly blobBytes: number;
  /** `?tag=` of one push: 414 beyond. */
  readonly tagsPerPush: number;
  /** A page of tags: default and cap. */
  readonly tagsPage: number;
  readonly catalogPageDefault: number;
  readonly catalogPageCap: number;
  /** A page of referrers: entries, and bytes of their JSON (one entry is always sent). */
  readonly referrersPage: number;
  readonly referrersBytes: number;
  /** A transfer slower than this over that time is ended. */
  readonly minimumRate: { readonly bytesPerSecond: number; readonly milliseconds: number };
  /** An unread request body: up to `keptAlive` it is thrown away and the connection lives; else at most `discarded` bytes in `discardMilliseconds`, then the connection ends. */
  readonly keptAlive: number;
  readonly discarded: number;
  readonly discardMilliseconds: number;
}

/** The limits as they stand without configuration. */
export const DEFAULT_LIMITS: ProtocolLimits = {
  targetBytes: 8192,
  manifestBytes: 4 * 1024 * 1024,
  blobBytes: Number.MAX_SAFE_INTEGER,
  tagsPerPush: 50,
  tagsPage: 10_000,
  catalogPageDefault: 1000,
  catalogPageCap: 10_000,
  referrersPage: 1000,
  referrersBytes: 4 * 1024 * 1024,
  minimumRate: { bytesPerSecond: 1024, milliseconds: 60_000 },
  keptAlive: 64 * 1024,
  discarded: 16 * 1024 * 1024,
  discardMilliseconds: 5000,
};

/** What a trace is begun with. */
export interface TraceStart {
  readonly method: string;
  /** The kind of route, from a closed set. */
  readonly route: string;
  readonly repository: string;
  readonly requestId: string;
  /** W3C trace context as the client sent it. */
  readonly traceparent?: string | undefined;
}

/** Everything that the handler needs. Optional parts cost nothing where they are absent. */
export interface ProtocolParts {
  /** What is served, wrapped in whatever decides who may do what. */
  readonly registry: Registry;
  readonly authenticator: Authenticator;
  /**
   * The right alone, before anything else is looked at (query, state, body). Throws what the registry would throw.
   * `repository` is absent for `registry.catalog`. A read-only server refuses writes here too.
   */
  readonly authorize?: (
    call: Call,
    action: Action,
    repository: RepositoryName | undefined,
  ) => Promise<unknown> | unknown;
  /** Decides `GET /v2/` without credentials. */
  readonly mayPushAnonymously: () => boolean;
  readonly peerOf: (request: Request) => ProtocolPeer;
  /** The absolute URL of the token endpoint as this peer reaches it; undefined: only Basic is offered. */
  readonly realm: (peer: ProtocolPeer) => string | undefined;
  /** The name of this registry in challenges. */
  readonly service: string;
  readonly buffers: TransferBuffers;
  readonly log: Log;
  readonly accessLog?: ((line: AccessLine) => void) | undefined;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly state: () => 'ready' | 'starting' | 'draining';
  readonly limits?: Partial<ProtocolLimits>;
  /** Origins (`https://ui.example`) whose pages may call `/v2/`; `*` for all. */
  readonly cors?: { readonly origins: readonly string[] } | undefined;
  /** Address limit: throws TOOMANYREQUESTS. Asked before credentials are looked at. */
  readonly admit?: (peer: ProtocolPeer) => void;
  /** Where `?ns=` of a read leads: the repository that caches that registry's; undefined: 404. Absent: `ns` is ignored. */
  readonly namespace?: (ns: string, repository: RepositoryName) => RepositoryName | undefined;
  /** Begins a span; what it returns ends it with the status. */
  readonly trace?: ((start: TraceStart) => ((status: number) => void) | undefined) | undefined;
}
