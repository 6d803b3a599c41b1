/** What a load process is asked to do, and what it answers. Plain data: it crosses processes. */

interface Common {
  readonly url: string;
  readonly ca?: string;
}

/** Blobs of `size`, `each` of them by every client, all new (their names start with `name`); in chunks where asked for. */
export interface PushTask extends Common {
  readonly kind: 'push';
  readonly repository: string;
  readonly clients: number;
  readonly each: number;
  readonly size: number;
  readonly chunk?: number;
  readonly name: string;
}

/** One blob of `size` that is made while it is sent. `digest`: known already, else it is found before the clock runs. */
export interface BigTask extends Common {
  readonly kind: 'big';
  readonly repository: string;
  readonly size: number;
  readonly name: string;
  readonly digest?: string;
}

/** Small images, one after the other by every client, for so many seconds. */
export interface ImagesTask extends Common {
  readonly kind: 'images';
  readonly repository: string;
  readonly clients: number;
  readonly seconds: number;
  readonly name: string;
}

/** A GET every so many milliseconds, whether or not the one before is answered, until told to stop. */
export interface ProbeTask extends Common {
  readonly kind: 'probe';
  readonly path: string;
  readonly every: number;
}

/** Small requests over `connections`, each waiting for its answer. `tags`: append a random tag of the first so many. */
export interface RequestsTask extends Common {
  readonly kind: 'requests';
  readonly method: 'GET' | 'HEAD';
  readonly path: string;
  readonly tags?: number;
  readonly connections: number;
  readonly seconds: number;
  readonly token?: string;
}

/** Whole blobs by every client, `each` of them, the i-th client the i-th path; where curl is not there. */
export interface PullTask extends Common {
  readonly kind: 'pull';
  readonly paths: readonly string[];
  readonly each: number;
}

/** Transfers cut off somewhere, half of them uploads; uploads are cancelled afterwards. */
export interface AbortsTask extends Common {
  readonly kind: 'aborts';
  readonly repository: string;
  /** A blob's path, to be cut off. */
  readonly path: string;
  readonly size: number;
  readonly count: number;
  readonly connections: number;
}

/** A small image pushed and pulled back by every client, once in so many milliseconds, until told to stop. */
export interface TrafficTask extends Common {
  readonly kind: 'traffic';
  readonly clients: number;
  readonly every: number;
  readonly name: string;
}

export type Task = PushTask | BigTask | ImagesTask | ProbeTask | RequestsTask | PullTask | AbortsTask | TrafficTask;

/** What was done in how many seconds; latencies in milliseconds, NaN where not taken. */
export interface Done {
  readonly seconds: number;
  /** Requests, blobs, images or transfers. */
  readonly count: number;
  readonly bytes: number;
  readonly p50: number;
  readonly p99: number;
  readonly worst: number;
  /** Answers that were wrong, where these do not end the task. */
  readonly errors: number;
  /** Of the pulls, where pushes are what the others say. */
  readonly pull?: { readonly p50: number; readonly p99: number };
}

/** How work is done once it is prepared. */
export interface Work {
  run(): Promise<Done>;
  stop?(): void;
}
