/** A manifest's reference: a tag or a digest (distribution-spec, "Pulling manifests"). */
import type { Reference } from './names.ts';

/** The reference as it stands in a path or a message. */
export function referenceText(reference: Reference): string {
  return 'tag' in reference ? reference.tag : reference.digest;
}
