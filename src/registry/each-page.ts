/** Walks keyset pages as one sequence. */
import { RegistryError } from '../oci/error.ts';
import type { Page, PageRequest } from './registry.ts';

/**
 * Every item of every page. Asks for the next page only when the one before was used up. A list that does not move
 * on (a foreign registry that gives the same page again) is an error, not an endless walk.
 */
export async function* eachPage<T>(
  list: (page: PageRequest) => Promise<Page<T>>,
  options: { readonly limit?: number; readonly after?: string } = {},
): AsyncGenerator<T, void, undefined> {
  const limit = options.limit ?? 1_000;
  let { after } = options;
  for (;;) {
    const page = await list(after === undefined ? { limit } : { limit, after });
    yield* page.items;
    if (page.next === undefined) return;
    if (page.next === after) throw new RegistryError('UNAVAILABLE', 'The list gives the same page again and again.');
    after = page.next;
  }
}
