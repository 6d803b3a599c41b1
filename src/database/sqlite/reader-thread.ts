/** The reader thread: whatever is read and is not one of the request loop's look-ups. Opens read-only. */
import { parentPort, workerData } from 'node:worker_threads';
import { toWire } from '../faults.ts';
import { Connection } from './connection.ts';
import { sqliteFault } from './faults.ts';
import type { Files } from './migrate.ts';
import { checkPresent, type Present } from './present.ts';
import type { FromReader, ToReader } from './protocol.ts';

const CACHE_KIB = 4096;

/** Serves statements until told to close. Called once, by the thread's entry. */
export function runReaderThread(): void {
  const port = parentPort;
  if (port === null) throw new Error('This module is the entry of a thread.');
  const files = workerData as Files & { readonly present?: Present };
  let connection: Connection | undefined;

  const read = (id: number, text: string, values: readonly unknown[]): FromReader => {
    try {
      if (connection === undefined && files.present !== undefined) checkPresent(files, files.present);
      connection ??= new Connection({ ...files, readOnly: true, durability: 'full', cacheKib: CACHE_KIB });
      return { id, rows: connection.all(text, values) };
    } catch (error) {
      const fault = sqliteFault(error);
      if (fault.code === 'unavailable' || fault.code === 'corrupt') {
        connection?.close();
        connection = undefined;
      }
      return { id, error: toWire(fault) };
    }
  };

  port.on('message', (message: ToReader) => {
    if (message.kind === 'read') {
      port.postMessage(read(message.id, message.text, message.values));
      return;
    }
    connection?.close();
    port.close();
  });
}
