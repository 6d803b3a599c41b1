/**
 * Digests: parsing, and the compact form that the database keeps (one byte of algorithm, then the hash).
 * image-spec, descriptor.md, "Digests". Only sha256 and sha512, lower-case hex, exact length.
 */
import { createHash } from 'node:crypto';
import { RegistryError } from './error.ts';
import type { Algorithm, Digest } from './names.ts';

const HEX_LENGTH: Readonly<Record<Algorithm, number>> = { sha256: 64, sha512: 128 };
const CODE: Readonly<Record<Algorithm, number>> = { sha256: 1, sha512: 2 };

function isLowerHex(text: string, from: number): boolean {
  for (let i = from; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (!((c >= 48 && c <= 57) || (c >= 97 && c <= 102))) return false;
  }
  return true;
}

/** Whether the text is a digest that Longshore can serve. */
export function isDigest(text: string): text is Digest {
  if (text.length === 71 && text.startsWith('sha256:')) return isLowerHex(text, 7);
  return text.length === 135 && text.startsWith('sha512:') && isLowerHex(text, 7);
}

/** The digest, or RegistryError DIGEST_INVALID that says what is wrong with it. */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  const shown = text.length > 140 ? `${text.slice(0, 140)}…` : text;
  throw new RegistryError(
    'DIGEST_INVALID',
    'The digest is not valid: it must be "sha256:" and 64, or "sha512:" and 128, lower-case hex digits.',
    { detail: { digest: shown } },
  );
}

/** The algorithm's name, or undefined where Longshore does not serve it. */
export function parseAlgorithm(text: string): Algorithm | undefined {
  return text === 'sha256' || text === 'sha512' ? text : undefined;
}

/** The algorithm before the colon. */
export function algorithmOf(digest: Digest): Algorithm {
  return digest.charCodeAt(3) === 50 ? 'sha256' : 'sha512';
}

/** The hash, in lower-case hex. */
export function hexOf(digest: Digest): string {
  return digest.slice(7);
}

/** The digest of these bytes. */
export function digestOf(bytes: Uint8Array, algorithm: Algorithm = 'sha256'): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}` as Digest;
}

/** A digest from a finished hash in lower-case hex. Bounds are the caller's: `hex` comes from a hash function. */
export function digestFromHex(algorithm: Algorithm, hex: string): Digest {
  return `${algorithm}:${hex}` as Digest;
}

/** The database's form: one byte of algorithm (1 sha256, 2 sha512), then the hash. Its own memory, never a slab's slice. */
export function digestToBytes(digest: Digest): Uint8Array {
  const algorithm = algorithmOf(digest);
  const bytes = new Uint8Array(1 + HEX_LENGTH[algorithm] / 2);
  bytes[0] = CODE[algorithm];
  for (let i = 1, at = 7; i < bytes.length; i++, at += 2) {
    bytes[i] = (nibble(digest.charCodeAt(at)) << 4) | nibble(digest.charCodeAt(at + 1));
  }
  return bytes;
}

function nibble(code: number): number {
  return code < 58 ? code - 48 : code - 87;
}

/** The digest of the database's form; throws a TypeError on bytes that no `digestToBytes` made. */
export function digestFromBytes(bytes: Uint8Array): Digest {
  const algorithm = bytes[0] === CODE.sha256 ? 'sha256' : bytes[0] === CODE.sha512 ? 'sha512' : undefined;
  if (algorithm === undefined || bytes.length !== 1 + HEX_LENGTH[algorithm] / 2) {
    throw new TypeError(`not a stored digest: ${bytes.length} bytes, algorithm ${bytes[0]}`);
  }
  return `${algorithm}:${Buffer.from(bytes.buffer, bytes.byteOffset + 1, bytes.length - 1).toString('hex')}` as Digest;
}
