/** GET of a repository's tags. distribution-spec, "Listing Tags". */
import type { RepositoryName } from '../oci/names.ts';
import type { Exchange } from './exchange.ts';
import { jsonHeaders, nextLink } from './headers.ts';
import { readPage } from './page.ts';

/** HEAD and GET. */
export async function listTags(exchange: Exchange, repository: RepositoryName): Promise<void> {
  const { limits, parts } = exchange.room;
  const { none, ...page } = readPage(exchange.query, limits.tagsPage, limits.tagsPage);
  const { items, next } = await parts.registry.listTags(exchange.call!, repository, page);
  const body = Buffer.from(JSON.stringify({ name: repository, tags: none ? [] : items }));
  const headers = jsonHeaders(body.length);
  if (next !== undefined && !none) {
    const parameters = [['n', String(page.limit)] as const, ['last', next] as const];
    headers.push(...nextLink(`/v2/${repository}/tags/list`, parameters));
  }
  exchange.send(200, headers, body);
}
