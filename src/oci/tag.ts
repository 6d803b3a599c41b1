/** Tags: distribution-spec, "Pulling manifests" (`<reference>` as a tag): `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. */
import { RegistryError } from './error.ts';
import type { Tag } from './names.ts';

/** The longest tag, in bytes (all of them ASCII). */
export const MAX_TAG = 128;

/** Whether the text is a tag. One pass, no regular expression. */
export function isTag(text: string): text is Tag {
  if (text.length === 0 || text.length > MAX_TAG) return false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    const word = (c >= 97 && c <= 122) || (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || c === 95;
    if (!word && (i === 0 || (c !== 46 && c !== 45))) return false;
  }
  return true;
}

/** The tag, or RegistryError NAME_INVALID that says the grammar. */
export function parseTag(text: string): Tag {
  if (isTag(text)) return text;
  throw new RegistryError(
    'NAME_INVALID',
    'The tag is not valid: a letter, digit or "_", then at most 127 letters, digits, ".", "_" or "-".',
  );
}
