/** Feeding a body to a writer until its end, the signal, a failure; what arrived whole is always stored. */
import type { PieceWriter } from './writer.ts';

/** Why a body was not taken whole. */
export interface Failure {
  readonly broke: 'body' | 'signal' | 'storage';
  readonly cause: unknown;
}

/**
 * Runs `before`, then takes the body. Leaves the writer with nothing on its way. `wake` is handed the function to call
 * when the writer is pressed.
 */
export async function receive(
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
  writer: PieceWriter,
  wake: { now?: (() => void) | undefined },
  before: () => Promise<void>,
): Promise<Failure | undefined> {
  let iterator: AsyncIterator<Uint8Array> | undefined;
  let stop: ((reason: Failure) => void) | undefined;
  const aborted = (): void => stop?.({ broke: 'signal', cause: signal.reason });
  signal.addEventListener('abort', aborted, { once: true });
  let failure: Failure | undefined;
  try {
    await before();
    iterator = body[Symbol.asyncIterator]();
    const source = iterator;
    let asked: Promise<IteratorResult<Uint8Array>> | undefined;
    for (;;) {
      if (signal.aborted) throw { broke: 'signal', cause: signal.reason } satisfies Failure;
      if (writer.pressed) await writer.flush();
      asked ??= source.next();
      const pending = asked;
      // One short-lived promise per chunk: racing against one that lives as long as the upload would pile up memory.
      const result = await new Promise<IteratorResult<Uint8Array> | undefined>((resolve, reject) => {
        stop = reject;
        wake.now = () => resolve(undefined);
        pending.then(resolve, (cause: unknown) => reject({ broke: 'body', cause } satisfies Failure));
      });
      wake.now = undefined;
      if (result === undefined) continue;
      asked = undefined;
      if (result.done === true) break;
      await writer.add(result.value, true);
    }
  } catch (error) {
    failure = isFailure(error) ? error : { broke: 'storage', cause: error };
    // Not awaited: a body that never answers must not hold the upload.
    iterator?.return?.().then(
      () => undefined,
      () => undefined,
    );
  } finally {
    signal.removeEventListener('abort', aborted);
  }
  try {
    await writer.end();
  } catch (cause) {
    if (failure?.broke !== 'storage') failure = { broke: 'storage', cause };
  }
  return failure;
}

function isFailure(error: unknown): error is Failure {
  return typeof error === 'object' && error !== null && !(error instanceof Error) && 'broke' in error;
}
