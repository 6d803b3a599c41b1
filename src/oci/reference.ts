/** A manifest's reference: a tag or a digest (distribution-spec, "Pulling manifests"). */
import { parseDigest } from './digest.ts';
import type { Reference } from './names.ts';
import { parseTag } from './tag.ts';

/**
 * The reference. Whatever has a colon must be a digest (DIGEST_INVALID otherwise), whatever has none must be a tag
 * (NAME_INVALID otherwise): a malformed digest never falls through to a look-up of a tag.
 */
export function parseReference(text: string): Reference {
  return text.includes(':') ? { digest: parseDigest(text) } : { tag: parseTag(text) };
}

/** The reference as it stands in a path or a message. */
export function referenceText(reference: Reference): string {
  return 'tag' in reference ? reference.tag : reference.digest;
}
