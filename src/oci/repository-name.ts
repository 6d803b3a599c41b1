/** Repository names: distribution-spec, "Pulling manifests" (`<name>`), at most 255 bytes. No I/O, no regular expression. */
import { RegistryError } from './error.ts';
import type { RepositoryName } from './names.ts';

/** The longest name, in bytes (all of them ASCII). */
export const MAX_REPOSITORY_NAME = 255;

/**
 * Whether the text is a name: components `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` joined by `/`. One pass, linear.
 */
export function isRepositoryName(text: string): text is RepositoryName {
  const length = text.length;
  if (length === 0 || length > MAX_REPOSITORY_NAME) return false;
  let separators = 0; // how many separator characters stand before this one
  let separator = 0; // which one
  let started = false; // whether the component has an alphanumeric yet
  for (let i = 0; i < length; i++) {
    const c = text.charCodeAt(i);
    if ((c >= 97 && c <= 122) || (c >= 48 && c <= 57)) {
      started = true;
      separators = 0;
    } else if (c === 47) {
      if (!started || separators > 0) return false;
      started = false;
    } else if (c === 45 || c === 46 || c === 95) {
      if (!started) return false;
      if (separators > 0 && c !== separator) return false;
      separators++;
      separator = c;
      if ((c === 46 && separators > 1) || (c === 95 && separators > 2)) return false;
    } else return false;
  }
  return started && separators === 0;
}

/** The name, or RegistryError NAME_INVALID that says the grammar. */
export function parseRepositoryName(text: string): RepositoryName {
  if (isRepositoryName(text)) return text;
  throw new RegistryError(
    'NAME_INVALID',
    text.length > MAX_REPOSITORY_NAME
      ? `The repository name is longer than ${MAX_REPOSITORY_NAME} bytes.`
      : 'The repository name is not valid: use lower-case letters and digits, joined by ".", "_", "__" or "-", in parts separated by "/".',
  );
}
