/**
 * Tells a server that is slow from one that is gone without a word (a network that drops everything, a host that
 * froze). While statements are pending it looks five times a second whether anything was heard on any connection.
 * After 0.8 s of silence it asks for a sign of life; after 1.6 s it gives the server up, so that a request has its
 * answer within two seconds. Looks are counted, not time: a process that was stopped for a minute blames nobody.
 */
import { every } from '../../kit/clock.ts';
import { FaultError } from '../../oci/error.ts';
import type { Link } from './link.ts';
import type { Patience } from './pool.ts';

const LOOK_MILLISECONDS = 200;
const ASK_AFTER = 4;
const GIVE_UP_AFTER = 8;
/** Looks after which one connection is given up though the server answers others. Beyond the server's own limit of 30 s. */
const PATIENCE: Readonly<Record<Patience, number>> = { short: 8, usual: 175, endless: Number.POSITIVE_INFINITY };

/** Watches the links of a pool. */
export class Watch {
  readonly #links: ReadonlySet<Link>;
  readonly #probe: () => Promise<unknown>;
  readonly #hung: (error: Error) => void;
  #heard = false;
  #silent = 0;
  #stop: (() => void) | undefined;
  #asking = false;

  constructor(parts: { links: ReadonlySet<Link>; probe: () => Promise<unknown>; hung: (error: Error) => void }) {
    this.#links = parts.links;
    this.#probe = parts.probe;
    this.#hung = parts.hung;
  }

  /** The server answered somewhere. */
  readonly heard = (): void => {
    this.#heard = true;
  };

  /** The link is about to be used. */
  use(link: Link, patience: Patience): void {
    link.silent = 0;
    link.patience = PATIENCE[patience];
    this.#stop ??= every(LOOK_MILLISECONDS, () => this.#look());
  }

  stop(): void {
    this.#stop?.();
    this.#stop = undefined;
  }

  #look(): void {
    let pending = 0;
    for (const link of this.#links) {
      if (link.pending === 0) continue;
      pending++;
      if (++link.silent > link.patience) link.fail(silence());
    }
    if (pending === 0) {
      this.#silent = 0;
      this.stop();
      return;
    }
    if (this.#heard) {
      this.#heard = false;
      this.#silent = 0;
      return;
    }
    this.#silent++;
    if (this.#silent >= GIVE_UP_AFTER) {
      this.#silent = 0;
      this.#hung(silence());
    } else if (this.#silent >= ASK_AFTER && !this.#asking) {
      this.#asking = true;
      // Whether it answers, and not what: the answer is heard by the connection.
      this.#probe()
        .then(this.heard, () => undefined)
        .finally(() => {
          this.#asking = false;
        });
    }
  }
}

function silence(): FaultError {
  return new FaultError('unavailable', 'PostgreSQL does not answer.', { retryAfterSeconds: 2 });
}
