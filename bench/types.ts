/** What a measurement consists of: peers (programs under test), rows (what is measured), groups of rows, results. */

/**
 * `longshore2`: two instances of Longshore on the same engines. `bare`: an empty node:http server with the same answers.
 * `machine`: what disk and CPU can do at all.
 */
export type PeerName = 'longshore' | 'longshore2' | 'distribution' | 'zot' | 'olareg' | 'bare' | 'machine';

/** A running program under test. */
export interface Peer {
  readonly name: PeerName;
  /** Where it serves, without a slash at its end; empty where nothing is served. */
  readonly url: string;
  /** 0 where there is no process. */
  readonly pid: number;
  /** Its data folder. */
  readonly data: string;
  /** The PEM file with the authority of its certificate. */
  readonly ca?: string;
  /** Where a Bearer token is verified, and a token that is good for the whole run. */
  readonly secured?: { readonly url: string; readonly pid: number; readonly token: string };
  /** Where it is several processes: all of them, each serving at an address of its own. */
  readonly instances?: readonly { readonly url: string; readonly pid: number }[];
  stop(): Promise<void>;
}

/** Measured values by the figure's key. */
export type Values = Record<string, number>;

/** One number of a row. */
export interface Figure {
  readonly key: string;
  readonly title: string;
  readonly unit: string;
  readonly better: 'more' | 'less';
  readonly goals?: readonly Goal[];
}

/** What Longshore's median has to reach: a value, or a multiple of another peer's median. */
export type Goal =
  | { readonly atLeast: number }
  | { readonly atMost: number }
  | { readonly times: number; readonly of: PeerName };

/** A row: measured on each peer in turn. */
export interface Row {
  readonly id: string;
  readonly title: string;
  readonly figures: readonly Figure[];
  /** Most rounds of this row. */
  readonly rounds?: number;
  /** Absent: on every peer but `machine`. */
  runsOn?(peer: Peer): boolean;
  measure(peer: Peer): Promise<Values>;
}

/** Rows that share running peers. */
export interface Group {
  readonly id: string;
  readonly rows: readonly Row[];
  /** Peers are started anew, on empty folders, for every round. */
  readonly fresh?: boolean;
  /** Its part of the time bound, relative to the other groups'. */
  readonly weight: number;
  open(): Promise<readonly Peer[]>;
}

/** What all rows know. */
export interface Context {
  /** The run's temporary folder. */
  readonly folder: string;
  readonly quick: boolean;
  /** Endless traffic in full: 100 GiB and 20,000 aborted transfers. */
  readonly long: boolean;
  /** Only the engines of a fleet, and these in full. */
  readonly fleet: boolean;
  readonly tools: Tools;
  say(text: string): void;
}

/** Programs that were found; undefined: not there. */
export interface Tools {
  readonly wrk: string | undefined;
  readonly curl: string | undefined;
  readonly openssl: string | undefined;
  readonly distribution: string | undefined;
  readonly zot: string | undefined;
  readonly olareg: string | undefined;
}

/** What came of one row on one peer: values by round, or why there are none. */
export interface Measured {
  readonly row: Row;
  readonly peer: PeerName;
  readonly rounds: Values[];
  readonly errors: string[];
}
