/**
 * Signing in at an upstream: Basic, or a token from the service that its challenge names (Distribution's token
 * specification). The password goes to the registry's own origin and to token services that are its own or were
 * configured; a challenge that names another one gets nothing.
 */
import type { Clock } from '../kit/clock.ts';
import { Lru } from '../kit/lru.ts';
import { singleFlight } from '../kit/single-flight.ts';
import { RegistryError } from '../oci/error.ts';
import type { OutboundClient } from '../outbound/client.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import { badAnswer, refusalOf, upstreamError } from './errors.ts';
import type { UpstreamCredentials } from './settings.ts';

/** What it is made of. */
export interface SignInParts {
  readonly client: OutboundClient;
  readonly clock: Clock;
  /** The registry's address. */
  readonly url: URL;
  readonly credentials?: UpstreamCredentials;
  /** Hosts of token services that may be given the credentials. */
  readonly realmHosts: ReadonlySet<string>;
}

/** Knows what to send. */
export interface SignIn {
  /** The Authorization header for a scope, as far as it is known already. */
  header(scope: string): string | undefined;
  /**
   * The header to try once more with, after a 401 with these challenges to a request that had sent `used`. Undefined:
   * there is nothing else to try. RegistryError: DENIED, and what a token service's failures are.
   */
  answer(scope: string, challenges: readonly string[], used: string | undefined): Promise<string | undefined>;
}

const MOST_TOKENS = 1_000;
const MOST_ANSWER = 64 * 1024;
const LONGEST_TOKEN = 16 * 1024;
const LONGEST_SCOPE = 1024;
/** What counts where the answer says nothing, and the longest that is believed. Milliseconds. */
const STANDARD_LIFE = 60_000;
const LONGEST_LIFE = 3_600_000;
/** A token is not used in the last tenth of its life, at most ten seconds. */
const MARGIN = 10_000;

interface Kept {
  readonly header: string;
  readonly until: number;
}

/** Signs in at one registry. */
export function signIn(parts: SignInParts): SignIn {
  const { client, clock, url, credentials, realmHosts } = parts;
  const tokens = new Lru<string, Kept>({ count: MOST_TOKENS });
  const flight = singleFlight<string>();
  const basic =
    credentials === undefined
      ? undefined
      : `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')}`;
  let wantsBasic = false;

  async function tokenFor(scope: string, challenge: Challenge): Promise<string> {
    const realm = realmOf(challenge);
    const asked = challenge.parameters.get('scope');
    const scopes = asked !== undefined && asked.length <= LONGEST_SCOPE && asked !== '' ? asked : scope;
    for (const one of scopes.split(' ')) if (one !== '') realm.searchParams.append('scope', one);
    const service = challenge.parameters.get('service');
    if (service !== undefined && service.length <= 255) realm.searchParams.set('service', service);
    if (credentials !== undefined) realm.searchParams.set('account', credentials.username);
    const began = clock.monotonic();
    const answer = await client.send({
      url: realm,
      headers: { accept: 'application/json', ...(basic === undefined ? {} : { authorization: basic }) },
      redirects: false,
    });
    if (answer.status !== 200) {
      throw await refusalOf(answer, { host: realm.host, unknown: 'DENIED', clockNow: clock.now() });
    }
    const { token, life } = readToken(await answer.bytes(MOST_ANSWER), realm.host);
    const header = `Bearer ${token}`;
    tokens.set(scope, { header, until: began + life - Math.min(MARGIN, life / 10) });
    return header;
  }

  function realmOf(challenge: Challenge): URL {
    const text = challenge.parameters.get('realm') ?? '';
    const realm = URL.canParse(text) ? new URL(text) : undefined;
    if (realm === undefined || realm.username !== '' || realm.password !== '') {
      throw badAnswer(url.host, 'its challenge names no token service');
    }
    if (realm.protocol !== 'https:' && !(realm.protocol === 'http:' && url.protocol === 'http:')) {
      throw badAnswer(url.host, 'its token service is not under https');
    }
    if (credentials !== undefined && !realmHosts.has(realm.host)) {
      throw new RegistryError(
        'DENIED',
        `The registry ${url.host} names a token service at ${realm.host.slice(0, 255)}, which is not configured for it: the credentials were not sent.`,
      );
    }
    return realm;
  }

  return {
    header(scope) {
      if (wantsBasic) return basic;
      const kept = tokens.get(scope);
      if (kept === undefined) return undefined;
      if (kept.until > clock.monotonic()) return kept.header;
      tokens.delete(scope);
      return undefined;
    },
    async answer(scope, headers, used) {
      const challenges = parseChallenges(headers);
      const bearer = challenges.find(({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm'));
      if (bearer !== undefined) {
        const kept = tokens.peek(scope);
        if (kept !== undefined && kept.header !== used) return kept.header; // another request has signed in meanwhile
        tokens.delete(scope);
        try {
          return await flight(scope, () => tokenFor(scope, bearer));
        } catch (error) {
          throw upstreamError(error);
        }
      }
      if (basic === undefined || used === basic) return undefined;
      if (!challenges.some(({ scheme }) => scheme === 'basic')) return undefined;
      wantsBasic = true;
      return basic;
    },
  };
}

function readToken(bytes: Buffer, host: string): { readonly token: string; readonly life: number } {
  let document: { token?: unknown; access_token?: unknown; expires_in?: unknown } | null;
  try {
    document = JSON.parse(String(bytes));
  } catch {
    throw badAnswer(host, 'no JSON with a token');
  }
  const token = document?.token ?? document?.access_token;
  if (typeof token !== 'string' || token.length > LONGEST_TOKEN || !/^[\x21-\x7e]+$/.test(token)) {
    throw badAnswer(host, 'no token that can be sent');
  }
  const seconds = document?.expires_in;
  const life = typeof seconds === 'number' && seconds > 0 ? Math.min(LONGEST_LIFE, seconds * 1000) : STANDARD_LIFE;
  return { token, life };
}
