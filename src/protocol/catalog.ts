/** `GET /v2/` and `GET /v2/_catalog`. distribution-spec, "Determining Support"; Distribution's catalog. */
import { RegistryError } from '../oci/error.ts';
import type { Exchange } from './exchange.ts';
import { jsonHeaders, nextLink } from './headers.ts';
import { readPage } from './page.ts';

const BASE_BODY = '{}';
const BASE_HEADERS = jsonHeaders(BASE_BODY.length);

/**
 * HEAD and GET of `/v2/`: 200 for good credentials, or where anybody may push. Otherwise 401 even where anybody may
 * pull, because clients decide here whether to log in (edge case 78).
 */
export function answerBase(exchange: Exchange): void {
  const anonymous = exchange.call!.principal.kind === 'anonymous';
  const token = exchange.headers.authorization?.slice(0, 7).toLowerCase() === 'bearer ';
  if (anonymous && !token && !exchange.room.parts.mayPushAnonymously()) {
    throw new RegistryError('UNAUTHORIZED', 'Log in: this registry does not let anonymous clients push.');
  }
  exchange.send(200, BASE_HEADERS, BASE_BODY);
}

/** HEAD and GET of the catalog: the repositories that the caller may pull. */
export async function listRepositories(exchange: Exchange): Promise<void> {
  const { limits, parts } = exchange.room;
  const { none, ...page } = readPage(exchange.query, limits.catalogPageDefault, limits.catalogPageCap);
  const { items, next } = await parts.registry.listRepositories(exchange.call!, page);
  const body = Buffer.from(JSON.stringify({ repositories: none ? [] : items }));
  const headers = jsonHeaders(body.length);
  if (next !== undefined && !none) {
    headers.push(...nextLink('/v2/_catalog', [['n', String(page.limit)] as const, ['last', next] as const]));
  }
  exchange.send(200, headers, body);
}
