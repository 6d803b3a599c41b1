/**
 * Turns credentials into a principal. Without credentials, with a token or a password that was checked a moment ago
 * it answers at once, without a promise. The same credentials give the same object, so that decisions about it can be
 * remembered by identity.
 */
import { createHmac, randomBytes } from 'node:crypto';
import type { Clock } from '../kit/clock.ts';
import { Lru } from '../kit/lru.ts';
import { singleFlight } from '../kit/single-flight.ts';
import { asRegistryError, RegistryError } from '../oci/error.ts';
import type { Principal } from '../registry/call.ts';
import type { Authenticator, Peer } from './access.ts';
import { isAccountName } from './accounts.ts';
import { parseAuthorization } from './basic.ts';
import { type Identities, type Identity, MAX_IDENTITY_AGE } from './identities.ts';
import type { Passwords } from './password.ts';
import { MAX_PASSWORD } from './password-hash.ts';
import { ANONYMOUS } from './principals.ts';
import type { RefreshTokens } from './refresh.ts';
import type { Tokens, VerifiedToken } from './token.ts';

const MAX_REMEMBERED = 10_000;
const MAX_TOKEN_BYTES = 32 * 1024 * 1024;
/** How long a password that was right is not hashed again, milliseconds. */
const REMEMBER_PASSWORD = 60_000;
const MAX_NAME = 255;
/** The names under which clients send an identity token as a password. */
const TOKEN_USERS: ReadonlySet<string> = new Set(['<token>', '00000000-0000-0000-0000-000000000000']);

/** What authentication stands on. `certificates`: whether a client certificate's CN names an account. */
export interface AuthenticatorParts {
  readonly identities: Identities;
  readonly passwords: Pick<Passwords, 'verify'>;
  readonly tokens: Tokens;
  readonly refreshTokens: RefreshTokens;
  readonly clock: Clock;
  readonly certificates: boolean;
}

/** The authenticator, and what the token endpoint needs of it. */
export interface Logins extends Authenticator {
  /** A name and a password. UNAUTHORIZED; TOOMANYREQUESTS, UNAVAILABLE where it cannot be checked now. */
  password(name: string, password: string): Promise<Principal> | Principal;
}

interface RememberedToken {
  readonly principal: Principal;
  readonly verified: VerifiedToken;
  readonly bytes: number;
  checkedAt: number;
  revision: number;
}

interface RememberedPassword {
  readonly identity: Identity;
  readonly until: number;
}

const wrong = (): RegistryError => new RegistryError('UNAUTHORIZED', 'The user name or the password is wrong.');
const badToken = (): RegistryError =>
  new RegistryError('UNAUTHORIZED', 'The token is not valid, or not any more. Log in again.', {
    detail: { error: 'invalid_token' },
  });

/** The common name of a certificate's subject as Node writes it, one attribute a line; undefined unless there is exactly one. */
export function commonNameOf(subject: string): string | undefined {
  const names = subject.split('\n').filter((line) => line.startsWith('CN='));
  return names.length === 1 ? names[0]!.slice(3) : undefined;
}

/** Makes it. */
export function authenticator(parts: AuthenticatorParts): Logins {
  const { identities, passwords, tokens, refreshTokens, clock } = parts;
  const rememberedTokens = new Lru<string, RememberedToken>(
    { count: MAX_REMEMBERED, weight: MAX_TOKEN_BYTES },
    (entry) => entry.bytes,
  );
  const rememberedPasswords = new Lru<string, RememberedPassword>({ count: MAX_REMEMBERED });
  const flights = singleFlight<Principal>();
  const key = randomBytes(32);

  /** Over length-prefixed fields, so that no two pairs of name and password share a key (threats.md 26). */
  const keyOf = (realm: string, ...fields: readonly string[]): string => {
    const mac = createHmac('sha256', key);
    for (const field of [realm, ...fields]) {
      const bytes = Buffer.from(field, 'utf8');
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      mac.update(length).update(bytes);
    }
    return mac.digest('base64url');
  };

  const stillGood = (then: Identity, now: Identity | null | undefined): now is Identity =>
    now !== null &&
    now !== undefined &&
    !now.disabled &&
    now.principal.id === then.principal.id &&
    now.generation === then.generation;

  const checkPassword = async (name: string, password: string, memory: string): Promise<Principal> => {
    const identity = await identities.find(name);
    const right = await passwords.verify(password, identity?.hash ?? identities.decoy(name));
    if (!right || identity?.hash === undefined || identity.disabled) throw wrong();
    // The account may have changed while the hash ran.
    const now = await identities.find(name);
    if (!stillGood(identity, now)) throw wrong();
    rememberedPasswords.set(memory, { identity: now, until: clock.monotonic() + REMEMBER_PASSWORD });
    return now.principal;
  };

  const password = (name: string, secret: string): Promise<Principal> | Principal => {
    if (Buffer.byteLength(name) > MAX_NAME || Buffer.byteLength(secret) > MAX_PASSWORD || name === '') throw wrong();
    const memory = keyOf('password', name, secret);
    const known = rememberedPasswords.peek(memory);
    if (known !== undefined && known.until > clock.monotonic()) {
      const now = identities.peek(name);
      if (stillGood(known.identity, now)) return now.principal;
      if (now === undefined) {
        return identities.find(name).then((found) => {
          if (stillGood(known.identity, found)) return found.principal;
          rememberedPasswords.delete(memory);
          return flights(memory, () => checkPassword(name, secret, memory));
        });
      }
    }
    rememberedPasswords.delete(memory);
    return flights(memory, () => checkPassword(name, secret, memory));
  };

  const identityToken = async (token: string): Promise<Principal> => {
    const identity = await refreshTokens.redeem(token, tokens.settings.service);
    if (identity === undefined) throw wrong();
    return identity.principal;
  };

  /** Looks at the account again: it may have been disabled, or its generation raised. */
  const recheck = async (header: string, entry: RememberedToken): Promise<Principal> => {
    const subject = entry.verified.subject!;
    const revision = identities.revision();
    const at = clock.monotonic();
    const identity = await identities.find(subject.name);
    if (
      identity === undefined ||
      identity.disabled ||
      identity.principal.id !== subject.id ||
      identity.generation !== subject.generation
    ) {
      rememberedTokens.delete(header);
      throw badToken();
    }
    entry.checkedAt = at;
    entry.revision = revision;
    return entry.principal;
  };

  const newToken = async (header: string, token: string): Promise<Principal> => {
    const verified = await tokens.verify(token);
    if (verified === undefined) throw badToken();
    const { subject, bounds } = verified;
    const principal: Principal =
      subject === undefined ? { ...ANONYMOUS, bounds } : { kind: 'user', id: subject.id, name: subject.name, bounds };
    const entry: RememberedToken = {
      principal: Object.freeze(principal),
      verified,
      bytes: 2 * header.length + 1024,
      checkedAt: Number.NEGATIVE_INFINITY,
      revision: -1,
    };
    if (subject !== undefined) await recheck(header, entry);
    // Somebody else may have brought the same token meanwhile: one object for one token.
    const other = rememberedTokens.peek(header);
    if (other !== undefined) return other.principal;
    rememberedTokens.set(header, entry);
    return entry.principal;
  };

  const tokenAgain = (header: string, entry: RememberedToken): Promise<Principal> | Principal => {
    if (entry.verified.expiresAt <= clock.now()) {
      rememberedTokens.delete(header);
      throw badToken();
    }
    if (entry.verified.subject === undefined) return entry.principal;
    if (entry.revision === identities.revision() && clock.monotonic() - entry.checkedAt < MAX_IDENTITY_AGE) {
      return entry.principal;
    }
    return recheck(header, entry);
  };

  const certificate = async (subject: string): Promise<Principal> => {
    const name = commonNameOf(subject);
    if (name === undefined || !isAccountName(name)) return ANONYMOUS;
    const identity = await identities.find(name);
    if (identity === undefined) return ANONYMOUS;
    if (identity.disabled) throw new RegistryError('UNAUTHORIZED', 'The account of this certificate is disabled.');
    return identity.principal;
  };

  const unnamed = (peer: Peer): Promise<Principal> | Principal =>
    parts.certificates && peer.certificateSubject !== undefined && peer.certificateSubject !== ''
      ? certificate(peer.certificateSubject)
      : ANONYMOUS;

  const start = (header: string | undefined, peer: Peer): Promise<Principal> | Principal => {
    if (header === undefined) return unnamed(peer);
    const entry = rememberedTokens.peek(header);
    if (entry !== undefined) return tokenAgain(header, entry);
    const credentials = parseAuthorization(header);
    switch (credentials.scheme) {
      case 'none':
        return unnamed(peer);
      case 'bad':
        throw new RegistryError('UNAUTHORIZED', 'The Authorization header is neither Basic nor Bearer.');
      case 'bearer':
        return newToken(header, credentials.token);
      case 'basic':
        return TOKEN_USERS.has(credentials.name)
          ? identityToken(credentials.password)
          : password(credentials.name, credentials.password);
    }
  };

  const passedOn = (error: unknown): never => {
    throw asRegistryError(error);
  };
  const translated = (answer: Promise<Principal> | Principal): Promise<Principal> | Principal =>
    answer instanceof Promise ? answer.catch(passedOn) : answer;

  return {
    authenticate: (headers, peer) => translated(start(headers.authorization, peer)),
    password: (name, secret) => translated(password(name, secret)),
  };
}
