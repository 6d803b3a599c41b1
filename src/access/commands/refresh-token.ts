/** Commands on refresh tokens. Only a token's SHA-256 is ever stored. */
import type { Command } from '../../database/database.ts';

/** Most live refresh tokens of one account; beyond it the oldest go. */
export const MAX_REFRESH_TOKENS = 200;

/** What is stored of a refresh token. */
export interface RefreshTokenAdd {
  /** SHA-256 of the token's text. */
  readonly hash: Uint8Array;
  /** The principal's id. */
  readonly subject: string;
  readonly generation: number;
  readonly service: string;
  readonly client: string | null;
  /** Milliseconds of life. */
  readonly lifetime: number;
}

/** Adds one, and drops the account's expired and surplus ones. */
export const refreshTokenAdd: Command<RefreshTokenAdd, null> = {
  name: 'access.refresh-token-add',
  async run({ sql, now }, token) {
    await sql.run('delete from refresh_token where subject = ? and expires_at <= ?', token.subject, now);
    await sql.run(
      'delete from refresh_token where hash in (select hash from refresh_token where subject = ? order by created_at desc, hash limit 1000 offset ?)',
      token.subject,
      MAX_REFRESH_TOKENS - 1,
    );
    await sql.run(
      'insert into refresh_token (hash, subject, generation, service, client, created_at, expires_at) values (?, ?, ?, ?, ?, ?, ?)',
      token.hash,
      token.subject,
      token.generation,
      token.service,
      token.client,
      now,
      now + token.lifetime,
    );
    return { result: null, touched: [] };
  },
};

/** Drops up to 1,000 expired ones; `result`: how many. */
export const refreshTokenExpire: Command<null, number> = {
  name: 'access.refresh-token-expire',
  async run({ sql, now }) {
    const result = await sql.run(
      'delete from refresh_token where hash in (select hash from refresh_token where expires_at <= ? limit 1000)',
      now,
    );
    return { result, touched: [] };
  },
};
