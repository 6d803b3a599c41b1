/** The log: one JSON object a line, to standard error or a file, through pino, behind `kit/log`. */
import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino';
import type { Fields, Line, Log } from '../kit/log.ts';
import { escapeHidden, withoutSecrets } from './escape.ts';

/** Levels, from the most talkative. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** How the log is written. */
export interface LogOptions {
  readonly level: LogLevel;
  /** A file's path or a descriptor; absent: standard error. Lines are written at once. */
  readonly to?: string | number;
  /** In place of `to`, for tests. */
  readonly stream?: DestinationStream;
}

/** A log whose level can be changed while it runs. */
export interface RootLog extends Log {
  setLevel(level: LogLevel): void;
}

/** Field names whose values are never written. */
const SECRET_FIELD = /^(authorization|cookie|set-cookie|.*password|.*secret|.*token|.*credentials?|.*privatekey)$/i;
const LONGEST_TEXT = 8_192;
const MOST_CAUSES = 5;

/** Opens the log. Errors are written with stack and causes; what looks like a credential is left out. */
export function openLog(options: LogOptions): RootLog {
  const stream = options.stream ?? opened(options.to ?? 2);
  const logger = pino(
    {
      level: options.level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      hooks: { streamWrite: escapeHidden },
    },
    stream,
  );
  return { ...over(logger), setLevel: (level) => void (logger.level = level) };
}

/** Most bytes of lines that wait for a disk that takes none; beyond them lines are dropped. */
const WAITING_BYTES = 1024 * 1024;

/** Whoever logs is never hurt by a log that cannot be written: there is nobody left to tell. */
function opened(to: string | number): DestinationStream {
  const out = destination({ dest: to, sync: true, maxLength: WAITING_BYTES });
  out.on('error', () => {});
  return out;
}

function over(logger: Logger): Log {
  const line =
    (level: LogLevel): Line =>
    (message, fields) => {
      if (!logger.isLevelEnabled(level)) return;
      const text = clean(message);
      if (fields === undefined) logger[level](text);
      else logger[level](writable(fields), text);
    };
  return {
    debug: line('debug'),
    info: line('info'),
    warn: line('warn'),
    error: line('error'),
    child: (fields) => over(logger.child(writable(fields))),
  };
}

function writable(fields: Fields): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    if (SECRET_FIELD.test(name)) out[name] = '***';
    else if (value instanceof Error) out[name] = errorAsData(value, MOST_CAUSES);
    else out[name] = typeof value === 'string' ? clean(value) : value;
  }
  return out;
}

/** An error as plain data: name, message, code, stack and its chain of causes. */
function errorAsData(error: Error, causes: number): object {
  const { code } = error as NodeJS.ErrnoException;
  return {
    type: error.name,
    message: clean(error.message),
    ...(typeof code === 'string' ? { code } : {}),
    ...(error.stack === undefined ? {} : { stack: clean(error.stack) }),
    ...(error.cause instanceof Error && causes > 0 ? { cause: errorAsData(error.cause, causes - 1) } : {}),
  };
}

function clean(text: string): string {
  return withoutSecrets(text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT)}…` : text);
}
