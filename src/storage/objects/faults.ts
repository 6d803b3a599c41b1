/** The faults of object storage, and the time limit that every request has. */
import { after } from '../../kit/clock.ts';
import { type FaultCode, FaultError } from '../../oci/error.ts';

/** Until a small request was answered, or the first byte of a body came. The client is to have its 503 within two seconds. */
export const REQUEST_MILLISECONDS = 1800;
/** Until a connection stands: a little less, so that the fault can say what is wrong. */
export const CONNECT_MILLISECONDS = 1700;
/** A body that is read and gives nothing for so long is dead. */
export const STALL_MILLISECONDS = 30_000;
const MOVE_MILLISECONDS = 30_000;
/** What the slowest line that is of any use brings in a millisecond. */
const BYTES_PER_MILLISECOND = 512;

/**
 * A fault. `doing` completes "could not …", `why` says what the store answered and what a person can do. The cause
 * must be free of secrets: pass a name and a code, never the vendor's error itself, which holds the request.
 */
export function fault(code: FaultCode, doing: string, why: string, retryAfterSeconds?: number): FaultError {
  return new FaultError(
    code,
    `Object storage could not ${doing}: ${why}.`,
    retryAfterSeconds === undefined ? {} : { retryAfterSeconds },
  );
}

/** The store as a whole does not answer any more: whoever waits for it next would wait in vain. */
export class StoreAway extends FaultError {
  /** `message`: that of the fault that was met. */
  constructor(message: string) {
    super('unavailable', message);
    this.name = 'StoreAway';
  }
}

/** Milliseconds that a request may take which moves so many bytes. */
export function requestLimit(bytes: number): number {
  return bytes <= 64 * 1024 ? REQUEST_MILLISECONDS : MOVE_MILLISECONDS + Math.ceil(bytes / BYTES_PER_MILLISECOND);
}

/**
 * Runs `work` with a signal that is aborted after `milliseconds` (or with the outer one, whose reason, if it is a text,
 * says why); then it is `unavailable`, even where `work` does not listen. When `work` has settled the signal is never aborted any more.
 */
export async function timed<T>(
  milliseconds: number,
  doing: string,
  work: (signal: AbortSignal) => Promise<T>,
  outer?: AbortSignal,
): Promise<T> {
  const controller = new AbortController();
  let stop: (() => void) | undefined;
  let cancel: (() => void) | undefined;
  let settled = false;
  try {
    return await new Promise<T>((resolve, reject) => {
      const end = (why: string): void => {
        if (settled) return;
        // First the rejection: what `work` makes of the abort comes too late.
        reject(fault('unavailable', doing, why));
        controller.abort();
      };
      // An answer that lies ready, while this process was busy with something else, is taken first.
      cancel = after(milliseconds, () =>
        setImmediate(() => setImmediate(() => end(`it did not answer within ${Math.round(milliseconds / 1000)} s`))),
      );
      if (outer !== undefined) {
        const ended = (): void => end(typeof outer.reason === 'string' ? outer.reason : 'the work was broken off');
        if (outer.aborted) {
          ended();
          return;
        }
        outer.addEventListener('abort', ended, { once: true });
        stop = () => outer.removeEventListener('abort', ended);
      }
      work(controller.signal).then(resolve, reject);
    });
  } finally {
    settled = true;
    cancel?.();
    stop?.();
  }
}
