/** The words that routes are declared in: names, tags, digests and times, checked by the specification's own parsers. */
import * as z from 'zod';
import { isDigest } from '../oci/digest.ts';
import type { Digest, RepositoryName, Tag } from '../oci/names.ts';
import { isRepositoryName, MAX_REPOSITORY_NAME } from '../oci/repository-name.ts';
import { isTag, MAX_TAG } from '../oci/tag.ts';

/** A repository's name. In a path its slashes are written `%2F`. */
export const repositoryName = z
  .string()
  .min(1)
  .max(MAX_REPOSITORY_NAME)
  .refine(isRepositoryName, 'must be a repository’s name')
  .meta({
    id: 'RepositoryName',
    description: 'A repository’s name, as in library/alpine. In a path it is one segment: library%2Falpine.',
  }) as unknown as z.ZodType<RepositoryName, string>;

/** A tag. */
export const tagName = z
  .string()
  .min(1)
  .max(MAX_TAG)
  .refine(isTag, 'must be a tag')
  .meta({ id: 'Tag', description: 'A tag.' }) as unknown as z.ZodType<Tag, string>;

/** A digest. */
export const digest = z
  .string()
  .max(135)
  .refine(isDigest, 'must be a digest: sha256 or sha512, a colon, and lower-case hexadecimal digits')
  .meta({ id: 'Digest', description: 'A digest: sha256:… or sha512:…' }) as unknown as z.ZodType<Digest, string>;

/** A moment, as it goes out. */
export const instant = z.iso.datetime().meta({ description: 'RFC 3339, UTC.' });

/** Milliseconds since 1970 as the API says them. */
export function instantOf(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}

/** The parameters of everything below one repository. */
export const OF_REPOSITORY = z.strictObject({ name: repositoryName });
/** The parameters of everything below one tag. */
export const OF_TAG = z.strictObject({ name: repositoryName, tag: tagName });
/** The parameters of everything below one manifest. */
export const OF_MANIFEST = z.strictObject({ name: repositoryName, digest });
