/** Refresh tokens ("identity tokens"): random, stored as SHA-256 only, used again and again until they expire. */
import { createHash } from 'node:crypto';
import type { Database } from '../database/database.ts';
import type { Clock } from '../kit/clock.ts';
import { randomId } from '../kit/id.ts';
import { refreshTokenAdd, refreshTokenExpire } from './commands/refresh-token.ts';
import type { Identities, Identity } from './identities.ts';
import type { TokenSubject } from './token.ts';

const PREFIX = 'lsr_';
const TEXT = /^lsr_[A-Za-z0-9_-]{43}$/;
/** Milliseconds of life: 90 days. */
const LIFETIME = 90 * 86_400_000;
const MAX_CLIENT = 128;

/** Makes and redeems them. */
export interface RefreshTokens {
  issue(subject: TokenSubject, service: string, client: string | undefined): Promise<string>;
  /** Whose it is; undefined for every text that is not good now, whatever the reason. */
  redeem(token: string, service: string): Promise<Identity | undefined>;
  /** Drops some of the expired; how many. */
  expire(): Promise<number>;
}

const hashOf = (token: string): Uint8Array => new Uint8Array(createHash('sha256').update(token).digest());

/** Refresh tokens in the database. */
export function refreshTokensIn(
  database: Pick<Database, 'run' | 'query'>,
  identities: Identities,
  clock: Clock,
): RefreshTokens {
  return {
    issue: async (subject, service, client) => {
      const token = PREFIX + Buffer.from(randomId(32)).toString('base64url');
      await database.run(refreshTokenAdd, {
        hash: hashOf(token),
        subject: subject.principal.id,
        generation: subject.generation,
        service,
        client: client?.slice(0, MAX_CLIENT) ?? null,
        lifetime: LIFETIME,
      });
      return token;
    },
    redeem: async (token, service) => {
      if (!TEXT.test(token)) return undefined;
      const row = await database.query.get<{ subject: string; generation: number; expires_at: number }>(
        'select subject, generation, expires_at from refresh_token where hash = ? and service = ?',
        hashOf(token),
        service,
      );
      if (row === undefined || row.expires_at <= clock.now()) return undefined;
      const identity = await identities.byId(row.subject);
      return identity === undefined || identity.disabled || identity.generation !== row.generation
        ? undefined
        : identity;
    },
    expire: () => database.run(refreshTokenExpire, null, { lane: 'job' }),
  };
}
