/** GET of what refers to a manifest, as an image index. distribution-spec, "Listing Referrers". */
import { OCI_INDEX } from '../oci/media-types.ts';
import type { Descriptor, Digest, RepositoryName } from '../oci/names.ts';
import type { Exchange } from './exchange.ts';
import { jsonHeaders, nextLink } from './headers.ts';
import { readPage } from './page.ts';
import { bad } from './query.ts';

const LONGEST_FILTER = 255;

/** HEAD and GET. An unknown subject has an empty index, never 404. */
export async function listReferrers(exchange: Exchange, repository: RepositoryName, subject: Digest): Promise<void> {
  const { limits, parts } = exchange.room;
  const { query } = exchange;
  const { none, ...page } = readPage(query, limits.referrersPage, limits.referrersPage);
  const artifactType = query.artifactType === '' ? undefined : query.artifactType;
  if (artifactType !== undefined && artifactType.length > LONGEST_FILTER) {
    throw bad(`"artifactType" is longer than ${LONGEST_FILTER} bytes.`);
  }
  const list = (limit: number) =>
    parts.registry.listReferrers(exchange.call!, repository, subject, artifactType, { ...page, limit });
  let found = await list(page.limit);
  let texts = found.items.map(descriptorText);
  const fitting = countWithin(texts, limits.referrersBytes);
  if (fitting < texts.length) {
    // Asked again for fewer, because only the registry knows how to go on from there.
    found = await list(fitting);
    texts = found.items.map(descriptorText);
  }
  const shown = none ? '' : texts.join(',');
  const body = Buffer.from(`{"schemaVersion":2,"mediaType":"${OCI_INDEX}","manifests":[${shown}]}`);
  const headers = jsonHeaders(body.length, OCI_INDEX);
  if (found.filtered) headers.push('OCI-Filters-Applied', 'artifactType');
  if (found.next !== undefined && !none) {
    const parameters: (readonly [string, string])[] = [];
    if (artifactType !== undefined) parameters.push(['artifactType', artifactType]);
    if (query.n !== undefined && query.n !== '') parameters.push(['n', String(page.limit)]);
    parameters.push(['last', found.next]);
    headers.push(...nextLink(`/v2/${repository}/referrers/${subject}`, parameters));
  }
  exchange.send(200, headers, body);
}

function descriptorText(descriptor: Descriptor): string {
  const { mediaType, digest, size, artifactType, annotations, platform } = descriptor;
  return JSON.stringify({ mediaType, digest, size, artifactType, annotations, platform });
}

/** How many from the start fit, at least one. */
function countWithin(texts: readonly string[], bytes: number): number {
  let total = 0;
  for (let i = 0; i < texts.length; i++) {
    total += Buffer.byteLength(texts[i]!) + 1;
    if (total > bytes) return Math.max(1, i);
  }
  return texts.length;
}
