/**
 * The token endpoint (routes.md §5; Distribution's token and OAuth 2 specifications). GET with Basic or nothing, POST
 * with a form. An access token is no way to another one. Errors are said twice, as OAuth 2 (`error`) and as OCI
 * (`errors`), for clients read one or the other.
 */
import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify';
import type { Access, Peer } from '../access/access.ts';
import type { Logins } from '../access/authenticator.ts';
import { grantedOf } from '../access/grant.ts';
import type { Identities } from '../access/identities.ts';
import type { RefreshTokens } from '../access/refresh.ts';
import { formatScope, parseScopes, type Scope } from '../access/scope.ts';
import type { TokenSubject, Tokens } from '../access/token.ts';
import { asRegistryError, RegistryError } from '../oci/error.ts';
import type { Principal } from '../registry/call.ts';

/** Largest form, in bytes. */
const MAX_FORM = 16 * 1024;
const FORM = 'application/x-www-form-urlencoded';
const ALLOWED_METHODS = 'GET, POST';

/** What the endpoint stands on. */
export interface TokenRoutesParts {
  readonly authenticator: Logins;
  readonly access: Access;
  readonly tokens: Tokens;
  readonly refreshTokens: RefreshTokens;
  readonly identities: Identities;
  /** The other end, trusted proxies considered. Absent: the socket's address. */
  readonly peerOf?: (request: FastifyRequest) => Peer;
  /** Where it lies; `/token` where absent. */
  readonly path?: string;
}

interface Asked {
  readonly scopes: readonly Scope[];
  readonly client: string | undefined;
  readonly offline: boolean;
}

interface Answer {
  token?: string;
  access_token: string;
  scope?: string;
  expires_in: number;
  issued_at: string;
  refresh_token?: string;
}

const invalid = (message: string): RegistryError => new RegistryError('DENIED', message, { status: 400 });

/** OAuth 2's word for an error (RFC 6749 §5.2). */
function wordOf(error: RegistryError): string {
  const { detail } = error;
  if (typeof detail === 'object' && detail !== null && 'oauth' in detail) return String(detail.oauth);
  if (error.status === 401) return 'invalid_grant';
  return error.status >= 500 || error.status === 429 ? 'temporarily_unavailable' : 'invalid_request';
}

function sendError(reply: FastifyReply, thrown: unknown): FastifyReply {
  const error = asRegistryError(thrown);
  if (error.status === 401) reply.header('www-authenticate', 'Basic realm="longshore", charset="UTF-8"');
  if (error.retryAfterSeconds !== undefined) reply.header('retry-after', String(error.retryAfterSeconds));
  return reply
    .code(error.status)
    .header('cache-control', 'no-store')
    .type('application/json')
    .send(
      JSON.stringify({
        error: wordOf(error),
        error_description: error.message,
        errors: [{ code: error.code, message: error.message }],
      }),
    );
}

/** What Fastify itself refuses (size, content type, framing of the body) in our words. */
function fromFastify(error: unknown): unknown {
  const status = (error as { statusCode?: unknown }).statusCode;
  if (error instanceof RegistryError || typeof status !== 'number') return error;
  if (status === 413) return new RegistryError('DENIED', `The form is larger than ${MAX_FORM} bytes.`, { status: 413 });
  if (status === 415) return new RegistryError('UNSUPPORTED', `The body must be ${FORM}.`, { status: 415 });
  return status < 500 ? new RegistryError('DENIED', 'The request is not valid.', { status }) : error;
}

/** Only one value for what may be given once: two readers must not differ. */
function single(form: URLSearchParams, name: string): string | undefined {
  const values = form.getAll(name);
  if (values.length > 1 && values.some((value) => value !== values[0])) {
    throw invalid(`The parameter ${name} is given more than once.`);
  }
  return values[0];
}

/** The endpoint as a plugin of its own scope: its parsers and error texts reach nothing else. */
export function tokenRoutes(parts: TokenRoutesParts): FastifyPluginAsync {
  const { authenticator, access, tokens, refreshTokens, identities } = parts;
  const path = parts.path ?? '/token';
  const peerOf = parts.peerOf ?? ((request: FastifyRequest): Peer => ({ address: request.ip }));

  const checkService = (service: string | undefined): void => {
    if (service !== undefined && service !== '' && service !== tokens.settings.service) {
      throw invalid('The service is not this registry. Use the one of the challenge.');
    }
  };

  const subjectOf = async (principal: Principal): Promise<TokenSubject | undefined> => {
    if (principal.kind === 'anonymous') return undefined;
    const identity = await identities.find(principal.name);
    if (identity === undefined || identity.disabled || identity.principal.id !== principal.id) {
      throw new RegistryError('UNAUTHORIZED', 'The account does not exist any more, or is disabled.');
    }
    return identity;
  };

  const answer = async (principal: Principal, asked: Asked, refresh?: string): Promise<Answer> => {
    const subject = await subjectOf(principal);
    const granted = await grantedOf(access, principal, asked.scopes);
    const issued = await tokens.issue(subject, granted);
    const { service } = tokens.settings;
    const again =
      refresh ??
      (asked.offline && subject !== undefined ? await refreshTokens.issue(subject, service, asked.client) : undefined);
    return {
      access_token: issued.token,
      scope: granted.map(formatScope).join(' '),
      expires_in: issued.expiresIn,
      issued_at: new Date(issued.issuedAt).toISOString(),
      ...(again === undefined ? {} : { refresh_token: again }),
    };
  };

  const get = async (request: FastifyRequest): Promise<Answer> => {
    const { authorization } = request.headers;
    // What a token may not do is make itself a longer life or wider bounds.
    if (authorization !== undefined && /^\s*bearer\b/i.test(authorization)) {
      throw new RegistryError('UNAUTHORIZED', 'Log in with a user name and a password to get a token.');
    }
    const principal = await authenticator.authenticate({ authorization }, peerOf(request));
    const url = request.raw.url ?? '';
    const query = new URLSearchParams(url.includes('?') ? url.slice(url.indexOf('?') + 1) : '');
    checkService(single(query, 'service'));
    const { scope: _, ...given } = await answer(principal, {
      scopes: parseScopes(query.getAll('scope')),
      client: single(query, 'client_id'),
      offline: single(query, 'offline_token') === 'true',
    });
    return { token: given.access_token, ...given };
  };

  const post = async (request: FastifyRequest): Promise<Answer> => {
    if (!(request.body instanceof Buffer)) {
      throw new RegistryError('UNSUPPORTED', `The body must be ${FORM}.`, { status: 415 });
    }
    const form = new URLSearchParams(request.body.toString('utf8'));
    checkService(single(form, 'service'));
    const asked: Asked = {
      scopes: parseScopes(form.getAll('scope')),
      client: single(form, 'client_id'),
      offline: single(form, 'access_type') === 'offline',
    };
    switch (single(form, 'grant_type')) {
      case 'password': {
        const name = single(form, 'username') ?? '';
        const password = single(form, 'password');
        if (name === '') throw invalid('The user name is missing.');
        if (password === undefined) throw invalid('The password is missing.');
        return answer(await authenticator.password(name, password), asked);
      }
      case 'refresh_token': {
        const token = single(form, 'refresh_token') ?? '';
        if (token === '') throw invalid('The refresh token is missing.');
        const identity = await refreshTokens.redeem(token, tokens.settings.service);
        if (identity === undefined) {
          throw new RegistryError('UNAUTHORIZED', 'The refresh token is not valid, or not any more. Log in again.');
        }
        // Not rotated: clients keep what they have.
        return answer(identity.principal, asked, token);
      }
      case undefined:
        throw invalid('The grant type is missing.');
      default:
        throw new RegistryError('DENIED', 'The grant type is not supported: use password or refresh_token.', {
          status: 400,
          detail: { oauth: 'unsupported_grant_type' },
        });
    }
  };

  const serve =
    (work: (request: FastifyRequest) => Promise<Answer>) =>
    async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
      try {
        const body = JSON.stringify(await work(request));
        return reply.code(200).header('cache-control', 'no-store').type('application/json').send(body);
      } catch (error) {
        const known = asRegistryError(error);
        if (known.code === 'UNKNOWN') request.log.error({ err: known.cause }, 'the token endpoint failed');
        return sendError(reply, known);
      }
    };

  return async (app: FastifyInstance) => {
    app.removeAllContentTypeParsers();
    app.addContentTypeParser(FORM, { parseAs: 'buffer', bodyLimit: MAX_FORM }, (_request, body, done) =>
      done(null, body),
    );
    app.setErrorHandler((error, _request, reply) => sendError(reply, fromFastify(error)));
    app.get(path, { exposeHeadRoute: false }, serve(get));
    app.post(path, serve(post));
    app.route({
      method: ['HEAD', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'],
      url: path,
      // Before a body is looked at.
      onRequest: async (_request, reply) => {
        reply.header('allow', ALLOWED_METHODS);
        return sendError(reply, new RegistryError('UNSUPPORTED', 'This is only for GET and POST.'));
      },
      handler: async () => {},
    });
  };
}
