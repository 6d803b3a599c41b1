/** What every authenticator holds to, whatever stands behind it. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RegistryError } from '../oci/error.ts';
import type { Principal } from '../registry/call.ts';
import type { Authenticator } from './access.ts';

/** An authenticator that knows one user. */
export interface AuthenticatorUnderTest {
  readonly authenticator: Authenticator;
  readonly user: { readonly name: string; readonly password: string };
  /** A good token of the user's. */
  readonly token: string;
  close(): Promise<void>;
}

const PEER = { address: '127.0.0.1' };
const encode = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;

/** Registers the suite; `open` gives a fresh one. */
export function authenticatorContract(name: string, open: () => Promise<AuthenticatorUnderTest>): void {
  describe(`${name} keeps the contract of authenticators`, () => {
    const on = (work: (made: AuthenticatorUnderTest) => Promise<void>) => async () => {
      const made = await open();
      try {
        await work(made);
      } finally {
        await made.close();
      }
    };

    test(
      'no credentials are the anonymous, at once and always the same',
      on(async ({ authenticator }) => {
        const first = authenticator.authenticate({}, PEER);
        assert.ok(!(first instanceof Promise));
        assert.equal(first.kind, 'anonymous');
        assert.equal(first.id, 'anonymous');
        assert.equal(authenticator.authenticate({ authorization: undefined }, PEER), first);
        assert.equal(authenticator.authenticate({ authorization: 'Basic Og==' }, PEER), first);
        assert.ok(Object.isFrozen(first));
      }),
    );

    test(
      'a good password and a good token give the same person, the token with bounds',
      on(async ({ authenticator, user, token }) => {
        const byPassword = await authenticator.authenticate(
          { authorization: encode(`${user.name}:${user.password}`) },
          PEER,
        );
        assert.equal(byPassword.name, user.name);
        assert.equal(byPassword.bounds, undefined);
        const byToken = await authenticator.authenticate({ authorization: `Bearer ${token}` }, PEER);
        assert.equal(byToken.id, byPassword.id);
        assert.ok(Array.isArray(byToken.bounds));
        const again = authenticator.authenticate({ authorization: `Bearer ${token}` }, PEER);
        assert.equal(again, byToken, 'the same object, without a promise');
      }),
    );

    test(
      'bad credentials are UNAUTHORIZED with no secret in the error, never the anonymous',
      on(async ({ authenticator, user, token }) => {
        const headers = [
          encode(`${user.name}:wrong password`),
          encode(`nobody:${user.password}`),
          encode(`${user.name}:`),
          encode(`:${user.password}`),
          encode(`${user.name}:${'p'.repeat(1025)}`),
          encode(`${'n'.repeat(300)}:x`),
          encode(`${user.name.toUpperCase()}:${user.password}`),
          encode('no colon'),
          `Bearer ${token.slice(0, -2)}`,
          'Bearer x',
          'Bearer',
          'Basic',
          'Digest username="x"',
          '',
        ];
        for (const authorization of headers) {
          await assert.rejects(
            async (): Promise<Principal> => authenticator.authenticate({ authorization }, PEER),
            (error) => {
              assert.ok(error instanceof RegistryError, authorization);
              assert.equal(error.code, 'UNAUTHORIZED', authorization);
              const shown = `${error.message} ${JSON.stringify(error.detail)}`;
              for (const secret of [user.password, 'wrong password', token.slice(-20)])
                assert.ok(!shown.includes(secret));
              return true;
            },
          );
        }
      }),
    );
  });
}
