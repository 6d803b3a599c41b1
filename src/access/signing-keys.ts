/**
 * The keys that sign tokens: rows in the database, so that every instance has them. A new key waits a day before it
 * signs, so that every instance knows it by then; the old one verifies until its last token has ended.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import type { Database } from '../database/database.ts';
import type { Clock } from '../kit/clock.ts';
import { randomId } from '../kit/id.ts';
import { RegistryError } from '../oci/error.ts';
import { signingKeyAdd } from './commands/signing-key.ts';

const PURPOSE = 'token';
const DAY = 86_400_000;
/** How long a key signs before the next one is made. */
const KEY_LIFE = 90 * DAY;
/** How long every instance has to learn of a new key. */
const NOTICE = DAY;
/** No token lives longer; see `token.ts`. */
export const MAX_TOKEN_SECONDS = 86_400;
const RELOAD_AFTER = 600_000;
const RELOAD_AT_MOST_EVERY = 1000;
const MAX_KEYS = 32;
const KID = /^[A-Za-z0-9_-]{22}$/;

/** A key in use. Its algorithm is its own; a token's header has no say in it. */
export interface SigningKey {
  readonly kid: string;
  readonly algorithm: 'ES256';
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  /** Wall milliseconds. */
  readonly useFrom: number;
  readonly useUntil: number | undefined;
}

/** The keys of this installation. */
export interface SigningKeys {
  /** The key that signs now. */
  signer(): Promise<SigningKey>;
  /** At once, if it is known and has not ended. */
  peek(kid: string): SigningKey | undefined;
  /** Reads the keys again for an unknown id, at most once a second. */
  find(kid: string): Promise<SigningKey | undefined>;
  /** Makes the next key when the newest is 90 days old. Whether it did. */
  rotateIfDue(now: number): Promise<boolean>;
}

interface Row {
  readonly kid: string;
  readonly algorithm: string;
  readonly secret: Uint8Array;
  readonly use_from: number;
  readonly use_until: number | null;
}

function keyOf(row: Row): SigningKey {
  const privateKey = createPrivateKey({ key: Buffer.from(row.secret), format: 'der', type: 'pkcs8' });
  return {
    kid: row.kid,
    algorithm: 'ES256',
    privateKey,
    publicKey: createPublicKey(privateKey),
    useFrom: row.use_from,
    useUntil: row.use_until ?? undefined,
  };
}

function newKey(): { kid: string; algorithm: 'ES256'; secret: Uint8Array; publicJwk: string } {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return {
    kid: Buffer.from(randomId(16)).toString('base64url'),
    algorithm: 'ES256',
    secret: new Uint8Array(pair.privateKey.export({ format: 'der', type: 'pkcs8' })),
    publicJwk: JSON.stringify(pair.publicKey.export({ format: 'jwk' })),
  };
}

/** Loads the keys, and makes the first where there is none. */
export async function openSigningKeys(database: Pick<Database, 'run' | 'query'>, clock: Clock): Promise<SigningKeys> {
  let keys: ReadonlyMap<string, SigningKey> = new Map();
  let loadedAt = Number.NEGATIVE_INFINITY;
  let loading: Promise<void> | undefined;

  const load = (): Promise<void> => {
    loading ??= (async () => {
      const at = clock.monotonic();
      const rows = await database.query.all<Row>(
        'select kid, algorithm, secret, use_from, use_until from signing_key where purpose = ? order by use_from desc, kid limit ?',
        PURPOSE,
        MAX_KEYS,
      );
      const next = new Map<string, SigningKey>();
      for (const row of rows) {
        if (row.algorithm === 'ES256')
          next.set(
            row.kid,
            keys.get(row.kid) === undefined
              ? keyOf(row)
              : { ...keys.get(row.kid)!, useUntil: row.use_until ?? undefined },
          );
      }
      keys = next;
      loadedAt = at;
    })().finally(() => {
      loading = undefined;
    });
    return loading;
  };

  const add = async (useFrom: number, ifNewestBefore: number): Promise<boolean> => {
    const made = await database.run(signingKeyAdd, {
      ...newKey(),
      purpose: PURPOSE,
      useFrom,
      ifNewestBefore,
      othersUntil: useFrom + MAX_TOKEN_SECONDS * 1000 + DAY,
      dropBefore: clock.now() - DAY,
    });
    await load();
    return made;
  };

  const peek = (kid: string): SigningKey | undefined => {
    const key = keys.get(kid);
    return key === undefined || (key.useUntil !== undefined && key.useUntil <= clock.now()) ? undefined : key;
  };

  await load();
  if (keys.size === 0) await add(clock.now(), 0);

  return {
    signer: async () => {
      if (clock.monotonic() - loadedAt > RELOAD_AFTER) await load();
      const now = clock.now();
      let best: SigningKey | undefined;
      let first: SigningKey | undefined;
      for (const key of keys.values()) {
        // Newest first. A clock that was set back may leave only keys of the future: then the oldest.
        if (best === undefined && key.useFrom <= now) best = key;
        first = key;
      }
      const key = best ?? first;
      if (key === undefined) throw new RegistryError('UNAVAILABLE', 'There is no key to sign tokens with. Try again.');
      return key;
    },
    peek,
    find: async (kid) => {
      if (!KID.test(kid)) return undefined;
      const known = peek(kid);
      if (known !== undefined) return known;
      if (loading === undefined && clock.monotonic() - loadedAt < RELOAD_AT_MOST_EVERY) return undefined;
      await load();
      return peek(kid);
    },
    rotateIfDue: async (now) => {
      await load();
      const newest = Math.max(...[...keys.values()].map((key) => key.useFrom));
      return newest + KEY_LIFE <= now && (await add(now + NOTICE, newest + 1));
    },
  };
}
