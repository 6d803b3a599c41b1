/**
 * Access tokens: JWTs with the claims of Docker's token protocol (interfaces.md §2), signed with ES256. The key is
 * found by `kid` among our own and fixes the algorithm; `jwk`, `jku`, `x5u` and `x5c` are never looked at. The account's
 * id and generation ride along, so that a change of the account ends its tokens.
 */
import { sign, verify } from 'node:crypto';
import type { Clock } from '../kit/clock.ts';
import { randomId } from '../kit/id.ts';
import { RegistryError } from '../oci/error.ts';
import type { Action, Principal } from '../registry/call.ts';
import { actionOfWord, type Bound, isRegistryScope } from './principals.ts';
import type { Scope } from './scope.ts';
import { MAX_TOKEN_SECONDS, type SigningKey, type SigningKeys } from './signing-keys.ts';

/** Longest token that is issued: with other headers it must fit into 16 KiB. */
const MAX_ISSUED = 12 * 1024;
/** Longest token that is looked at. */
const MAX_TOKEN = 16 * 1024;
const MAX_GRANTS = 200;
/** How far clocks of instances may differ. */
const LEEWAY_SECONDS = 30;
const BASE64URL = /^[A-Za-z0-9_-]+$/;

/** `issuer`: `iss`. `service`: `aud`. `lifetimeSeconds`: 60 to 86,400. */
export interface TokenSettings {
  readonly issuer: string;
  readonly service: string;
  readonly lifetimeSeconds: number;
}

/** Who a token is for; undefined: anonymous. */
export interface TokenSubject {
  readonly principal: Principal;
  readonly generation: number;
}

/** A token that was made. `issuedAt`: wall milliseconds, whole seconds. */
export interface IssuedToken {
  readonly token: string;
  readonly expiresIn: number;
  readonly issuedAt: number;
}

/** What a token that verified says. */
export interface VerifiedToken {
  /** Undefined: anonymous. */
  readonly subject: { readonly id: string; readonly name: string; readonly generation: number } | undefined;
  readonly bounds: readonly Bound[];
  /** Wall milliseconds. */
  readonly expiresAt: number;
}

/** Makes and checks tokens. */
export interface Tokens {
  readonly settings: TokenSettings;
  /** DENIED with status 400 where so many scopes do not fit into a token. */
  issue(subject: TokenSubject | undefined, access: readonly Scope[]): Promise<IssuedToken>;
  /** Undefined for whatever is not a valid token of ours, now. The account is not looked at here. */
  verify(token: string): Promise<VerifiedToken | undefined>;
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

/** The JSON object of a part, strictly encoded. */
function decode(part: string): Record<string, unknown> | undefined {
  if (!BASE64URL.test(part)) return undefined;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(part, 'base64url'));
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

function boundsOf(access: unknown): readonly Bound[] | undefined {
  if (!Array.isArray(access) || access.length > MAX_GRANTS) return undefined;
  const bounds: Bound[] = [];
  for (const grant of access as readonly unknown[]) {
    if (typeof grant !== 'object' || grant === null) return undefined;
    const { type, name, actions } = grant as Record<string, unknown>;
    if (typeof type !== 'string' || typeof name !== 'string' || !Array.isArray(actions)) return undefined;
    if (type === 'repository') {
      const known = actions
        .map((word) => actionOfWord(String(word)))
        .filter((action): action is Action => action !== undefined);
      bounds.push({ repository: name, actions: known });
    } else if (type === 'registry' && isRegistryScope(name) && actions.includes('*')) {
      bounds.push({ repository: '', actions: [`registry.${name}`] });
    }
  }
  return bounds;
}

const isTime = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) > 0;

/** Tokens under these keys. */
export function tokensFrom(keys: SigningKeys, settings: TokenSettings, clock: Clock): Tokens {
  const signed = (input: string, signature: string, key: SigningKey): boolean => {
    const bytes = Buffer.from(signature, 'base64url');
    // One spelling only: 64 bytes, and no stray bits in the last character.
    if (bytes.length !== 64 || bytes.toString('base64url') !== signature) return false;
    return verify('sha256', Buffer.from(input), { key: key.publicKey, dsaEncoding: 'ieee-p1363' }, bytes);
  };

  const claimsOf = (payload: Record<string, unknown>): VerifiedToken | undefined => {
    const { iss, aud, exp, nbf, iat, sub, uid, gen, access } = payload;
    const now = Math.floor(clock.now() / 1000);
    if (iss !== settings.issuer || aud !== settings.service) return undefined;
    if (!isTime(exp) || !isTime(nbf) || !isTime(iat)) return undefined;
    if (exp <= now || exp > now + MAX_TOKEN_SECONDS + LEEWAY_SECONDS || exp - iat > MAX_TOKEN_SECONDS) return undefined;
    if (nbf > now + LEEWAY_SECONDS || iat > now + LEEWAY_SECONDS) return undefined;
    const bounds = boundsOf(access);
    if (bounds === undefined || typeof sub !== 'string') return undefined;
    if (sub === '') return { subject: undefined, bounds, expiresAt: exp * 1000 };
    if (typeof uid !== 'string' || !Number.isSafeInteger(gen)) return undefined;
    return { subject: { id: uid, name: sub, generation: gen as number }, bounds, expiresAt: exp * 1000 };
  };

  return {
    settings,
    issue: async (subject, access) => {
      const key = await keys.signer();
      const iat = Math.floor(clock.now() / 1000);
      const header = encode({ alg: key.algorithm, kid: key.kid, typ: 'JWT' });
      const payload = encode({
        iss: settings.issuer,
        sub: subject?.principal.name ?? '',
        aud: settings.service,
        exp: iat + settings.lifetimeSeconds,
        nbf: iat,
        iat,
        jti: Buffer.from(randomId(16)).toString('base64url'),
        access,
        ...(subject === undefined ? {} : { uid: subject.principal.id, gen: subject.generation }),
      });
      const input = `${header}.${payload}`;
      const signature = sign('sha256', Buffer.from(input), { key: key.privateKey, dsaEncoding: 'ieee-p1363' });
      const token = `${input}.${signature.toString('base64url')}`;
      if (token.length > MAX_ISSUED) {
        throw new RegistryError('DENIED', 'So many scopes do not fit into one token. Ask for fewer.', { status: 400 });
      }
      return { token, expiresIn: settings.lifetimeSeconds, issuedAt: iat * 1000 };
    },
    verify: async (token) => {
      if (token.length > MAX_TOKEN) return undefined;
      const first = token.indexOf('.');
      const second = token.indexOf('.', first + 1);
      if (first <= 0 || second === -1 || token.indexOf('.', second + 1) !== -1) return undefined;
      const header = decode(token.slice(0, first));
      if (header === undefined || typeof header.kid !== 'string' || 'crit' in header) return undefined;
      const key = keys.peek(header.kid) ?? (await keys.find(header.kid));
      if (key === undefined || header.alg !== key.algorithm) return undefined;
      if (!signed(token.slice(0, second), token.slice(second + 1), key)) return undefined;
      const payload = decode(token.slice(first + 1, second));
      return payload === undefined ? undefined : claimsOf(payload);
    },
  };
}
