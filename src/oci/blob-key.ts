/**
 * Where a blob's bytes lie, as a function of its digest and a number n: 0 is the plain path, a higher n stands where
 * every lower key is dead (`shared` schema: "Key"). A dead key is never used again, so the number only grows.
 */
import { algorithmOf, hexOf, isDigest } from './digest.ts';
import type { BlobKey, Digest } from './names.ts';

/** `sha256/ab/<hex>` for n = 0, else that and `~n`. */
export function blobKey(digest: Digest, n: number): BlobKey {
  const hex = hexOf(digest);
  const plain = `${algorithmOf(digest)}/${hex.slice(0, 2)}/${hex}`;
  return (n === 0 ? plain : `${plain}~${n}`) as BlobKey;
}

/** The digest and number of a key, or undefined where the text is not one (a stray file). */
export function parseBlobKey(
  text: string,
): { readonly digest: Digest; readonly n: number; readonly key: BlobKey } | undefined {
  const [algorithm, fan, name, ...rest] = text.split('/');
  if (algorithm === undefined || fan === undefined || name === undefined || rest.length > 0) return undefined;
  const tilde = name.indexOf('~');
  const hex = tilde < 0 ? name : name.slice(0, tilde);
  const digits = tilde < 0 ? '0' : name.slice(tilde + 1);
  const digest = `${algorithm}:${hex}`;
  const n = Number(digits);
  if (!isDigest(digest) || fan !== hex.slice(0, 2) || !Number.isSafeInteger(n) || n < 0) return undefined;
  const key = blobKey(digest, n);
  return key === text ? { digest, n, key } : undefined;
}
