/** Pages of lists: `n` and `last` (distribution-spec, "Listing Tags"). */
import { RegistryError } from '../oci/error.ts';
import { parseDigits } from '../oci/range.ts';
import type { PageRequest } from '../registry/registry.ts';
import { bad, type Query } from './query.ts';

const LONGEST_LAST = 1024;

/**
 * The page asked for: `n` clamped to `cap`, `standard` where absent or empty. `none`: `n=0`, which asks for nothing;
 * the registry is still asked for one entry, so that what does not exist is 404. PAGINATION_NUMBER_INVALID.
 */
export function readPage(query: Query, standard: number, cap: number): PageRequest & { readonly none: boolean } {
  const { n, last } = query;
  let limit: number | undefined = standard;
  if (n !== undefined && n !== '') {
    limit = parseDigits(n);
    if (limit === undefined) {
      throw new RegistryError('PAGINATION_NUMBER_INVALID', '"n" must be a whole number: how many entries to list.');
    }
  }
  if (last !== undefined && last.length > LONGEST_LAST) throw bad(`"last" is longer than ${LONGEST_LAST} bytes.`);
  return {
    none: limit === 0,
    limit: Math.max(1, Math.min(limit, cap)),
    ...(last === undefined || last === '' ? {} : { after: last }),
  };
}
