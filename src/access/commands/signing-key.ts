/** Commands on signing keys: rows, so that every instance has them (decisions.md 41). */
import type { Command } from '../../database/database.ts';

/** A key made by whoever calls. Times are wall milliseconds. */
export interface SigningKeyAdd {
  readonly kid: string;
  readonly purpose: string;
  readonly algorithm: string;
  /** PKCS #8, DER. */
  readonly secret: Uint8Array;
  readonly publicJwk: string;
  /** From when it signs. */
  readonly useFrom: number;
  /** A newest key that began after this makes the command do nothing. 0: add only where there is none. */
  readonly ifNewestBefore: number;
  /** Until when the keys before it verify. */
  readonly othersUntil: number;
  /** Keys that ended before this are dropped. */
  readonly dropBefore: number;
}

/** Adds a key where it is due; `result`: whether it did. */
export const signingKeyAdd: Command<SigningKeyAdd, boolean> = {
  name: 'access.signing-key-add',
  async run({ sql }, key) {
    // Two servers at once make one key: the second waits here and finds the first's.
    await sql.get('select id from installation where id = 1{ for update}');
    const newest = await sql.get<{ use_from: number }>(
      'select use_from from signing_key where purpose = ? order by use_from desc limit 1',
      key.purpose,
    );
    if (newest !== undefined && newest.use_from >= key.ifNewestBefore) return { result: false, touched: [] };
    await sql.run('delete from signing_key where purpose = ? and use_until < ?', key.purpose, key.dropBefore);
    await sql.run(
      'update signing_key set use_until = ? where purpose = ? and use_until is null',
      key.othersUntil,
      key.purpose,
    );
    await sql.run(
      'insert into signing_key (kid, purpose, algorithm, secret, public_jwk, use_from, use_until) values (?, ?, ?, ?, ?, ?, null)',
      key.kid,
      key.purpose,
      key.algorithm,
      key.secret,
      key.publicJwk,
      key.useFrom,
    );
    return { result: true, touched: [] };
  },
};
