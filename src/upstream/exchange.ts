/** One request to an upstream's `/v2/`: signed in as far as needed, its failures made the seam's. */
import { Readable } from 'node:stream';
import type { ErrorCode } from '../oci/error.ts';
import type { RepositoryName } from '../oci/names.ts';
import type { OutboundAnswer, OutboundLimits } from '../outbound/client.ts';
import type { Call } from '../registry/call.ts';
import { badAnswer, refusalOf, upstreamError } from './errors.ts';
import { realmHostsOf, type UpstreamParts, type UpstreamSettings } from './settings.ts';
import { signIn } from './token.ts';

/** What is asked. */
export interface Ask {
  /** GET if absent. */
  readonly method?: string;
  /** Below `/v2/`, with the query: made of checked names only. Or a whole URL of this registry, from `own`. */
  readonly path: string | URL;
  /** Of the token: `repository:a/b:pull`. */
  readonly scope: string;
  /** What 404 means. */
  readonly unknown: ErrorCode;
  readonly headers?: Readonly<Record<string, string>>;
  /** A stream can be sent once: sign in before, by a request without a body. */
  readonly body?: Uint8Array | Readable;
  readonly limits?: Partial<OutboundLimits>;
  /** Statuses besides 2xx that the caller looks at itself. */
  readonly also?: readonly number[];
}

/** An upstream that can be asked. */
export interface Upstream {
  /** The host's name (with a port where it has one), for messages. */
  readonly host: string;
  /** The answer where it is a success or one of `also`; else a RegistryError. */
  ask(call: Pick<Call, 'signal'>, ask: Ask): Promise<OutboundAnswer>;
  /** The URL of a path below `/v2/`. */
  at(path: string): URL;
  /** An address that an answer gave, as a URL of this very registry below `/v2/`; undefined where it is not one. */
  own(text: string, from: URL): URL | undefined;
  /** The same without regard to its path: uploads go on where the registry says, but at the registry. */
  sameOrigin(text: string, from: URL): URL | undefined;
}

/** A body may take so long: a large layer over a slow line. Milliseconds. */
export const BODY_LIMITS: Partial<OutboundLimits> = { stall: 60_000, total: 6 * 3_600_000 };

const LONGEST_LINK = 8 * 1024;

/** The scope of reading a repository. */
export function pullScope(repository: RepositoryName): string {
  return `repository:${repository}:pull`;
}

/** The scope of pushing to one. */
export function pushScope(repository: RepositoryName): string {
  return `repository:${repository}:pull,push`;
}

/** The scope of deleting there. */
export function deleteScope(repository: RepositoryName): string {
  return `repository:${repository}:delete`;
}

/** Makes one. */
export function upstream(settings: UpstreamSettings, { client, clock }: UpstreamParts): Upstream {
  const url = new URL(settings.url);
  const { host } = url;
  const root = `${url.pathname.replace(/\/+$/, '')}/v2/`;
  const { credentials } = settings;
  const access = signIn({
    client,
    clock,
    url,
    realmHosts: realmHostsOf(url, settings),
    ...(credentials === undefined ? {} : { credentials }),
  });

  const at = (path: string): URL => new URL(`${root}${path}`, url);

  function sameOrigin(text: string, from: URL): URL | undefined {
    if (text === '' || text.length > LONGEST_LINK || !URL.canParse(text, from)) return undefined;
    const found = new URL(text, from);
    return found.origin === url.origin && found.username === '' && found.password === '' ? found : undefined;
  }

  async function once(
    call: Pick<Call, 'signal'>,
    ask: Ask,
    authorization: string | undefined,
  ): Promise<OutboundAnswer> {
    const { method, headers, body, limits } = ask;
    return client.send({
      url: ask.path instanceof URL ? ask.path : at(ask.path),
      signal: call.signal,
      headers: { ...headers, ...(authorization === undefined ? {} : { authorization }) },
      ...(method === undefined ? {} : { method }),
      ...(body === undefined ? {} : { body }),
      ...(limits === undefined ? {} : { limits }),
    });
  }

  async function signedIn(call: Pick<Call, 'signal'>, ask: Ask): Promise<OutboundAnswer> {
    const used = access.header(ask.scope);
    const answer = await once(call, ask, used);
    // A 401 from where a redirect led is not the registry's, and is told nothing.
    if (answer.status !== 401 || answer.url.origin !== url.origin || ask.body instanceof Readable) return answer;
    const again = await access.answer(ask.scope, answer.headers('www-authenticate'), used);
    if (again === undefined) return answer;
    answer.close();
    return once(call, ask, again);
  }

  return {
    host,
    at,
    async ask(call, ask) {
      try {
        const answer = await signedIn(call, ask);
        const { status } = answer;
        if ((status >= 200 && status < 300) || ask.also?.includes(status) === true) return answer;
        if (status >= 300 && status < 400) {
          answer.close();
          throw badAnswer(host, `the status ${status}`);
        }
        throw await refusalOf(answer, { host, unknown: ask.unknown, clockNow: clock.now() });
      } catch (error) {
        throw upstreamError(error, call.signal);
      }
    },
    own(text, from) {
      const found = sameOrigin(text, from);
      return found?.pathname.startsWith(root) === true && !hasDots(found.pathname) ? found : undefined;
    },
    sameOrigin,
  };
}

/** Encoded dots that a server between might take for a way up. */
function hasDots(path: string): boolean {
  return /%2e|%2f|%5c|\\/i.test(path);
}
