/**
 * The access log: one JSON line a request, built by hand and written in blocks, because it is the one line on the hot
 * path. What is in memory is bounded: where the disk does not keep up, lines are dropped and counted.
 */
import { destination } from 'pino';
import { type Clock, every } from '../kit/clock.ts';
import type { Log } from '../kit/log.ts';
import { quoted, withoutSecrets } from './escape.ts';

/** A request that has ended. */
export interface AccessEntry {
  readonly requestId: string;
  readonly method: string;
  /** The raw path with its query; credentials in the query are masked. */
  readonly path: string;
  /** 499 where the client went before an answer began. */
  readonly status: number;
  /** Bytes of the answer's body that were handed to the system. */
  readonly bytes: number;
  readonly milliseconds: number;
  /** The principal's name; empty where nobody was authenticated. */
  readonly user: string;
  readonly address: string;
  readonly userAgent: string;
  /** The code of the error that was answered. */
  readonly error?: string;
}

/** An open access log. */
export interface AccessLog {
  write(entry: AccessEntry): void;
  /** Opens the file anew, after it was moved away. Does nothing for a descriptor. */
  reopen(): void;
  /** Writes what is left, as far as that is possible; at exit. */
  close(): Promise<void>;
}

const BLOCK_BYTES = 4_096;
const MOST_BYTES = 4 * 1024 * 1024;
const FLUSH_MILLISECONDS = 1_000;
/** How often at most it is said that the log cannot be written. */
const COMPLAIN_MILLISECONDS = 60_000;

/** Opens the access log on a descriptor or a file (made 0640 where it is new). */
export function openAccessLog(to: string | number, log: Log, clock: Clock): AccessLog {
  const out = destination({
    dest: to,
    minLength: BLOCK_BYTES,
    maxLength: MOST_BYTES,
    sync: false,
    mkdir: typeof to === 'string',
    mode: 0o640,
  });
  let dropped = 0;
  let closed = false;
  out.on('drop', () => dropped++);
  let complained = Number.NEGATIVE_INFINITY;
  // Lines wait in memory, up to a bound, and are tried again with the next: requests never notice.
  const flushSync = out.flushSync.bind(out);
  out.on('write', () => void (out.flushSync = flushSync));
  out.on('error', (error: Error) => {
    // On a full disk it would try for ever, and the process would never end.
    out.flushSync = () => {};
    if (clock.monotonic() - complained < COMPLAIN_MILLISECONDS) return;
    complained = clock.monotonic();
    log.error('the access log cannot be written', { error });
  });
  const flush = (): void => {
    if (dropped > 0)
      log.warn('access log lines were dropped: what it is written to does not keep up', { lines: dropped });
    dropped = 0;
    out.flush(() => undefined);
  };
  const stopFlushing = every(FLUSH_MILLISECONDS, flush);
  return {
    write: (entry) => void (closed || out.write(accessLine(entry, clock.now()))),
    reopen: () => {
      if (typeof to === 'string' && !closed) out.reopen();
    },
    close: async () => {
      if (closed) return;
      closed = true;
      stopFlushing();
      await new Promise<void>((done) => {
        out.flush((error) => {
          if (error) log.warn('the last lines of the access log could not be written', { error });
          done();
        });
      });
      try {
        out.flushSync();
      } catch (error) {
        log.warn('the last lines of the access log could not be written', { error: error as Error });
      }
    },
  };
}

/** The line of one request, with its line break. Whatever the client sent, it is one line. */
export function accessLine(entry: AccessEntry, now: number): string {
  const path = entry.path.includes('?') ? withoutSecrets(entry.path) : entry.path;
  const user = entry.user === '' ? '' : `,"user":${quoted(entry.user, 256)}`;
  const agent =
    entry.userAgent === ''
      ? ''
      : `,"userAgent":${quoted(suspicious(entry.userAgent) ? withoutSecrets(entry.userAgent) : entry.userAgent, 256)}`;
  const error = entry.error === undefined ? '' : `,"error":${quoted(entry.error, 64)}`;
  return `{"time":"${isoTime(now)}","msg":"request","requestId":${quoted(entry.requestId, 64)},"method":${quoted(entry.method, 32)},"path":${quoted(path, 1024)},"status":${entry.status},"bytes":${entry.bytes},"ms":${entry.milliseconds.toFixed(2)},"address":${quoted(entry.address, 64)}${user}${agent}${error}}\n`;
}

/** Whether a text could carry a credential at all: a cheap look that spares most lines the closer one. */
function suspicious(text: string): boolean {
  return text.includes('@') || text.includes('=') || /basic|bearer/i.test(text);
}

let second = Number.NaN;
let secondText = '';

/** ISO time; what does not change within a second is kept. */
function isoTime(now: number): string {
  const at = Math.floor(now / 1000);
  if (at !== second) {
    second = at;
    secondText = new Date(at * 1000).toISOString().slice(0, 20);
  }
  return `${secondText}${String(now % 1000).padStart(3, '0')}Z`;
}
