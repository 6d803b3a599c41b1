/**
 * Who exists: accounts, then the htpasswd file. An account hides a line of the same name, also when it is disabled.
 * What was looked up is believed for ten seconds, or until this process changes something: a disabled account is
 * refused on every instance within that time.
 */
import { createHmac, randomBytes } from 'node:crypto';
import type { Database } from '../database/database.ts';
import type { Clock } from '../kit/clock.ts';
import { Lru } from '../kit/lru.ts';
import { singleFlight } from '../kit/single-flight.ts';
import type { Principal } from '../registry/call.ts';
import type { Htpasswd } from './htpasswd.ts';
import { dummyHash } from './password-hash.ts';

/** Longest time, in milliseconds, for which a look-up is believed. */
export const MAX_IDENTITY_AGE = 10_000;
const MAX_KNOWN = 10_000;
const MAX_COUNTED = 10_000;
const HTPASSWD_ID = 'user:htpasswd:';

/** Somebody who can log in. The same object for as long as nothing about them changed. */
export interface Identity {
  readonly principal: Principal;
  /** Raised by every change that ends sessions. */
  readonly generation: number;
  readonly disabled: boolean;
  /** Undefined: no password opens this account. */
  readonly hash: string | undefined;
}

/** Looks people up. */
export interface Identities {
  /** At once, if it is known freshly enough: null is "nobody", undefined "ask find". */
  peek(name: string): Identity | null | undefined;
  find(name: string): Promise<Identity | undefined>;
  /** By a principal's id. */
  byId(id: string): Promise<Identity | undefined>;
  /** Differs after every change that this process knows of. */
  revision(): number;
  /** This process changed an account or read the file anew: nothing is believed any more. */
  changed(): void;
  /** How many accounts there are, counted now, at most 10,000. */
  countAccounts(): Promise<number>;
  /**
   * A hash to check for a name that nobody has, so that it costs what somebody's would: drawn by the name, always the
   * same one, from the kinds of hashes in use. Whatever it verifies is refused.
   */
  decoy(name: string): string;
}

interface Known {
  readonly identity: Identity | null;
  readonly at: number;
}

interface AccountRow {
  readonly uid: string;
  readonly name: string;
  readonly password_hash: string | null;
  readonly disabled: number;
  readonly generation: number;
}

function same(a: Identity, b: Identity): boolean {
  return (
    a.principal.id === b.principal.id && a.generation === b.generation && a.disabled === b.disabled && a.hash === b.hash
  );
}

/** `htpasswd` is asked each time, since it is opened after this. */
export function openIdentities(
  database: Pick<Database, 'query'>,
  htpasswd: () => Htpasswd | undefined,
  clock: Clock,
): Identities {
  const known = new Lru<string, Known>({ count: MAX_KNOWN });
  const flights = singleFlight<Identity | undefined>();
  const decoyKey = randomBytes(32);
  const dummy = dummyHash();
  let revision = 0;
  let accounts = 0;

  const lookUp = async (name: string): Promise<Identity | undefined> => {
    const row = await database.query.get<AccountRow>(
      'select uid, name, password_hash, disabled, generation from account where name = ?',
      name,
    );
    if (row !== undefined) {
      return {
        principal: Object.freeze({ kind: 'user', id: `user:${row.uid}`, name: row.name }),
        generation: row.generation,
        disabled: row.disabled !== 0,
        hash: row.password_hash ?? undefined,
      };
    }
    const entry = htpasswd()?.get(name);
    if (entry === undefined) return undefined;
    return {
      principal: Object.freeze({ kind: 'user', id: `${HTPASSWD_ID}${name}`, name }),
      generation: entry.generation,
      disabled: false,
      hash: entry.hash,
    };
  };

  const peek = (name: string): Identity | null | undefined => {
    const entry = known.peek(name);
    return entry !== undefined && clock.monotonic() - entry.at < MAX_IDENTITY_AGE ? entry.identity : undefined;
  };

  const find = async (name: string): Promise<Identity | undefined> => {
    const fresh = peek(name);
    if (fresh !== undefined) return fresh ?? undefined;
    const asked = revision;
    return flights(`${asked}:${name}`, async () => {
      const at = clock.monotonic();
      let identity = await lookUp(name);
      const before = known.peek(name)?.identity ?? undefined;
      if (before !== undefined && identity !== undefined && same(before, identity)) identity = before;
      // An answer from before a change is good for whoever asked before it, and for nobody later.
      if (asked === revision) known.set(name, { identity: identity ?? null, at });
      return identity;
    });
  };

  return {
    peek,
    find,
    byId: async (id) => {
      let name: string | undefined;
      if (id.startsWith(HTPASSWD_ID)) name = id.slice(HTPASSWD_ID.length);
      else if (id.startsWith('user:')) {
        name = (await database.query.get<{ name: string }>('select name from account where uid = ?', id.slice(5)))
          ?.name;
      }
      const identity = name === undefined ? undefined : await find(name);
      return identity?.principal.id === id ? identity : undefined;
    },
    revision: () => revision,
    changed: () => {
      revision++;
      known.clear();
    },
    countAccounts: async () => {
      const row = await database.query.get<{ n: number }>(
        'select count(*) as n from (select 1 as one from account limit ?) as some_accounts',
        MAX_COUNTED,
      );
      accounts = row?.n ?? 0;
      return accounts;
    },
    decoy: (name) => {
      const entries = htpasswd()?.entries ?? [];
      const all = accounts + entries.length;
      if (entries.length === 0) return dummy;
      const drawn = createHmac('sha256', decoyKey).update(name).digest().readUInt32BE(0) % all;
      return drawn < accounts ? dummy : entries[drawn - accounts]!.hash;
    },
  };
}
