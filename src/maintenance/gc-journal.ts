/**
 * The journal of dead keys: before bytes are deleted their keys are written here, in storage, so that a database that
 * is restored from an older backup learns which of its keys are gone (decisions.md 9). Records
 * `gc/journal-<name>-<number>`, one line a key: the tick at which it died, a space, the key.
 */
import { uuidv7 } from '../kit/id.ts';
import { parseBlobKey } from '../oci/blob-key.ts';
import type { BlobKey } from '../oci/names.ts';
import type { Records } from '../storage/storage.ts';

const PREFIX = 'gc/journal-';
/** A record is begun anew above this size, so that an append never writes much. */
const RECORD_BYTES = 256 * 1024;

/** Appends keys; durable when it resolves. */
export interface Journal {
  append(keys: readonly { readonly key: BlobKey; readonly tick: number }[]): Promise<void>;
}

/** A journal of its own for this process, beside those of others. `now`: wall milliseconds, for its name. */
export function openJournal(records: Records, now: number): Journal {
  const name = uuidv7(now);
  let number = 0;
  let lines = '';
  return {
    async append(keys) {
      const added = keys.map(({ key, tick }) => `${tick} ${key}\n`).join('');
      if (lines !== '' && lines.length + added.length > RECORD_BYTES) {
        number++;
        lines = '';
      }
      // Kept even where the write fails: a line too many says only that a dead key is dead.
      lines += added;
      await records.put(`${PREFIX}${name}-${String(number).padStart(6, '0')}`, Buffer.from(lines));
    },
  };
}

/** Every key in the journal, in no order; perhaps twice. Lines that are no journal's are skipped. */
export async function* readJournal(records: Records): AsyncGenerator<{ readonly key: BlobKey; readonly tick: number }> {
  for await (const name of records.list(PREFIX)) {
    const bytes = await records.get(name);
    for (const line of Buffer.from(bytes ?? [])
      .toString('utf8')
      .split('\n')) {
      const space = line.indexOf(' ');
      const key = parseBlobKey(line.slice(space + 1))?.key;
      const tick = Number(line.slice(0, space));
      if (key !== undefined && Number.isSafeInteger(tick)) yield { key, tick };
    }
  }
}
