/** The writer thread: the only connection that writes. It answers each transaction once, and checkpoints when idle. */
import { statSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { every, systemClock } from '../../kit/clock.ts';
import { armFailpoints, killAt } from '../../kit/failpoint.ts';
import { giveMemoryBack } from '../../kit/rest.ts';
import { FaultError } from '../../oci/error.ts';
import type { CommandList } from '../database.ts';
import { toWire, type WireError } from '../faults.ts';
import { Batches, type Ending, type Part } from './batch.ts';
import { Connection } from './connection.ts';
import { checkPresent } from './present.ts';
import type { FromWriter, ToWriter, WriterData } from './protocol.ts';
import { reserveBeside } from './reserve.ts';
import { roomFor } from './room.ts';

const CACHE_KIB = 8192;
const CHECK_MILLISECONDS = 1000;
const SOME_WAL = 1024 * 1024;
const LARGE_WAL = 32 * 1024 * 1024;

/** Serves batches until told to close. `commands`: all that may be asked for. Called once, by the thread's entry. */
export function runWriterThread(commands: CommandList): void {
  const port = parentPort;
  if (port === null) throw new Error('This module is the entry of a thread.');
  const data = workerData as WriterData;
  if (data.failpoint !== undefined) armFailpoints(killAt(data.failpoint.name, data.failpoint.count));
  const batches = new Batches({
    commands,
    ticks: data.ticks,
    open() {
      // Never made anew: a file that is missing is a fault, not an empty database.
      checkPresent(data, data.present);
      return new Connection({ ...data, readOnly: false, cacheKib: CACHE_KIB });
    },
    check: () => checkPresent(data, data.present),
    room: roomFor(data, systemClock.monotonic),
    reserve: reserveBeside(data.path, systemClock.monotonic),
    monotonic: systemClock.monotonic,
  });
  let busy = false;
  let quietFor = 0;

  const stop = every(CHECK_MILLISECONDS, () => {
    if (busy || quietFor++ % 60 !== 1) return;
    checkpoint(batches.connection, data);
    rest(batches.connection);
  });

  const probe = (): { error?: WireError } => {
    // In the middle of a batch its transactions show how things stand.
    const error = busy ? undefined : batches.probe();
    return error === undefined ? {} : { error };
  };
  const say = (message: FromWriter): void => port.postMessage(message);
  const giveBack = (part: Part, milliseconds: number, last: boolean): void => {
    try {
      say({ kind: 'part', part, milliseconds, last });
    } catch {
      say({ kind: 'part', part: { ...part, endings: part.endings.map(clonable) }, milliseconds, last });
    }
  };

  port.on('message', async (message: ToWriter) => {
    switch (message.kind) {
      case 'batch': {
        busy = true;
        let began = systemClock.monotonic();
        await batches.run(message.items, message.now, (part, last) => {
          const ended = systemClock.monotonic();
          giveBack(part, ended - began, last);
          began = ended;
        });
        busy = false;
        quietFor = 0;
        break;
      }
      case 'ping':
        say({ kind: 'pong', ...probe() });
        break;
      case 'close':
        stop();
        checkpoint(batches.connection, data, true);
        batches.close();
        port.close();
    }
  });
}

/** A result that is not plain data is the command's bug; it must not keep the others from their answers. */
function clonable(ending: Ending): Ending {
  try {
    return structuredClone(ending);
  } catch (cause) {
    return { ok: false, error: toWire(new FaultError('bug', 'A command returned what is not plain data.', { cause })) };
  }
}

/** A quiet writer needs neither its cache nor its garbage. */
function rest(connection: Connection | undefined): void {
  try {
    connection?.db.exec('pragma shrink_memory');
  } catch {
    // The next batch meets the same trouble and reports it.
  }
  giveMemoryBack();
}

function checkpoint(connection: Connection | undefined, data: WriterData, last = false): void {
  if (connection === undefined) return;
  for (const [schema, file] of [
    ['main', data.path],
    ['side', data.sidePath],
  ] as const) {
    try {
      const size = statSync(`${file}-wal`, { throwIfNoEntry: false })?.size ?? 0;
      if (size < SOME_WAL && !last) continue;
      // A truncation waits for readers; it must not keep the next batch waiting long.
      connection.db.exec('pragma busy_timeout = 50');
      connection.db.exec(`pragma ${schema}.wal_checkpoint(${size > LARGE_WAL || last ? 'truncate' : 'passive'})`);
    } catch {
      // The log stays longer; the next batch meets the same trouble and reports it.
    }
  }
  try {
    connection.db.exec('pragma busy_timeout = 1000');
  } catch {
    // As above.
  }
}
