/** How long a database has to show that it is there. */
import { after } from '../kit/clock.ts';
import { FaultError } from '../oci/error.ts';

const PING_MILLISECONDS = 2000;

/** Resolves once `answer` does, or rejects with FaultError `unavailable` after two seconds. */
export async function within(answer: Promise<unknown>): Promise<void> {
  let stop = (): void => {};
  const late = new Promise<never>((_, reject) => {
    stop = after(PING_MILLISECONDS, () =>
      reject(new FaultError('unavailable', 'The database did not answer within 2 seconds.')),
    );
  });
  try {
    await Promise.race([answer, late]);
  } finally {
    stop();
  }
}
