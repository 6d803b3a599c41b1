/**
 * An htpasswd file: `name:hash` lines with bcrypt or argon2id, read again within seconds of a change. The whole file
 * is parsed before it counts. Lines of other kinds (MD5, SHA-1, crypt, plain) are reported, by number and never by
 * content, and give nobody access.
 */
import { createHash } from 'node:crypto';
import { every } from '../kit/clock.ts';
import type { Log } from '../kit/log.ts';
import type { FileSource } from './config.ts';
import { isSupportedHash } from './password-hash.ts';

/** Largest file and most lines. */
export const MAX_HTPASSWD_BYTES = 4 * 1024 * 1024;
const MAX_LINES = 50_000;
const MAX_NAME = 255;
const CHECK_EVERY = 2000;

/** One user of the file. */
export interface HtpasswdEntry {
  readonly name: string;
  readonly hash: string;
  /** 48 bits of the line's digest: another password, another generation. */
  readonly generation: number;
}

/** The parsed text. `unsupported`: numbers of the lines that cannot be used, from 1. */
export interface ParsedHtpasswd {
  readonly entries: ReadonlyMap<string, HtpasswdEntry>;
  readonly unsupported: readonly number[];
}

/** Parses the text. The first line of a name counts, as in Apache. */
export function parseHtpasswd(text: string): ParsedHtpasswd {
  const entries = new Map<string, HtpasswdEntry>();
  const unsupported: number[] = [];
  const lines = text.split('\n', MAX_LINES + 1);
  for (const [index, raw] of lines.entries()) {
    const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
    if (line === '' || line.startsWith('#')) continue;
    const colon = line.indexOf(':');
    const name = line.slice(0, Math.max(colon, 0));
    const hash = line.slice(colon + 1);
    if (index >= MAX_LINES || name === '' || Buffer.byteLength(name) > MAX_NAME || !isSupportedHash(hash)) {
      unsupported.push(index + 1);
    } else if (!entries.has(name)) {
      const digest = createHash('sha256').update(`${name}:${hash}`).digest();
      entries.set(name, { name, hash, generation: digest.readUIntBE(0, 6) });
    }
  }
  return { entries, unsupported };
}

/** The file as it is now. */
export interface Htpasswd {
  get(name: string): HtpasswdEntry | undefined;
  /** All entries, in the file's order. */
  readonly entries: readonly HtpasswdEntry[];
  /** Whether anything is known about users: false only for a file that was read and names nobody. */
  mayHaveUsers(): boolean;
  /** Looks at the file now. */
  refresh(): Promise<void>;
  close(): void;
}

/** Reads the file and watches it. A file that cannot be read lets nobody in. `changed` is called after each change. */
export async function openHtpasswd(
  path: string,
  files: FileSource,
  log: Log,
  changed: () => void = () => {},
): Promise<Htpasswd> {
  let entries: ReadonlyMap<string, HtpasswdEntry> = new Map();
  let list: readonly HtpasswdEntry[] = [];
  let read = false;
  let lastStamp: string | undefined | null = null;

  const take = (parsed: ParsedHtpasswd, good: boolean): void => {
    entries = parsed.entries;
    list = [...entries.values()];
    read = good;
    changed();
  };
  const empty: ParsedHtpasswd = { entries: new Map(), unsupported: [] };

  const look = async (): Promise<void> => {
    const stamp = await files.stamp(path);
    if (stamp === lastStamp) return;
    const bytes = stamp === undefined ? undefined : await files.read(path, MAX_HTPASSWD_BYTES);
    lastStamp = stamp;
    if (bytes === undefined) {
      log.error('the htpasswd file is not there or is too large: nobody can log in by it', {
        path,
        limit: MAX_HTPASSWD_BYTES,
      });
      take(empty, false);
      return;
    }
    const parsed = parseHtpasswd(new TextDecoder('utf-8', { ignoreBOM: false }).decode(bytes));
    take(parsed, true);
    log.info('read the htpasswd file', { path, users: parsed.entries.size });
    if (parsed.unsupported.length > 0) {
      log.warn('lines of the htpasswd file are left out: only bcrypt (cost 4 to 14) and argon2id are supported', {
        path,
        lines: parsed.unsupported.slice(0, 20).join(','),
        count: parsed.unsupported.length,
      });
    }
  };

  let last: Promise<void> = Promise.resolve();
  const refresh = (): Promise<void> => {
    last = last.then(look).catch((error: unknown) => {
      lastStamp = null;
      log.error('the htpasswd file could not be read', { path, error: error as Error });
      take(empty, false);
    });
    return last;
  };
  await refresh();
  const stop = every(CHECK_EVERY, () => void refresh());

  return {
    get: (name) => entries.get(name),
    get entries() {
      return list;
    },
    mayHaveUsers: () => !read || entries.size > 0,
    refresh,
    close: stop,
  };
}
