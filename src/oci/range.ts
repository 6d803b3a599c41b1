/**
 * Byte ranges as HTTP writes them: `Range` of a download (RFC 9110 §14.1), `Content-Range` and `Range` of an upload
 * (distribution-spec, "Pushing a blob in chunks"). Pure; every number is a safe integer.
 */
import type { ByteRange } from './names.ts';

/**
 * What a `Range` header asks for. whole: nothing that we serve in part (no range, another unit, several ranges);
 * suffix: the last `length` bytes; unsatisfiable: malformed, or empty in itself.
 */
export type RangeRequest =
  | { readonly kind: 'whole' }
  | { readonly kind: 'range'; readonly range: ByteRange }
  | { readonly kind: 'suffix'; readonly length: number }
  | { readonly kind: 'unsatisfiable' };

const WHOLE: RangeRequest = { kind: 'whole' };
const UNSATISFIABLE: RangeRequest = { kind: 'unsatisfiable' };

/** The number of a run of ASCII digits; beyond what is safe, the largest safe integer. Undefined for other text. */
export function parseDigits(text: string): number | undefined {
  if (text.length === 0) return undefined;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c < 48 || c > 57) return undefined;
  }
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : Number.MAX_SAFE_INTEGER;
}

/** Reads a `Range` header; undefined (no header) is the whole. An open end becomes the largest safe integer. */
export function parseRange(header: string | undefined): RangeRequest {
  if (header === undefined) return WHOLE;
  const equals = header.indexOf('=');
  if (equals < 0 || header.slice(0, equals).trim().toLowerCase() !== 'bytes') return WHOLE;
  const set = header.slice(equals + 1).trim();
  if (set.includes(',')) return WHOLE;
  const dash = set.indexOf('-');
  if (dash < 0) return UNSATISFIABLE;
  const first = set.slice(0, dash);
  const last = set.slice(dash + 1);
  if (first === '') {
    const length = parseDigits(last);
    return length === undefined || length === 0 ? UNSATISFIABLE : { kind: 'suffix', length };
  }
  const start = parseDigits(first);
  const end = last === '' ? Number.MAX_SAFE_INTEGER : parseDigits(last);
  if (start === undefined || end === undefined || end < start || start === Number.MAX_SAFE_INTEGER) {
    return UNSATISFIABLE;
  }
  return { kind: 'range', range: { start, end: Math.min(end, Number.MAX_SAFE_INTEGER - 1) + 1 } };
}

/** A chunk's `Content-Range`: `a-b` as the specification writes it, also `bytes a-b/N` and `bytes a-b/*`. Undefined where malformed. */
export function parseContentRange(header: string): ByteRange | undefined {
  let text = header.trim();
  if (text.slice(0, 5).toLowerCase() === 'bytes' && text[5] === ' ') text = text.slice(6).trim();
  const slash = text.indexOf('/');
  let total: number | undefined;
  if (slash >= 0) {
    const after = text.slice(slash + 1);
    if (after !== '*') {
      total = parseDigits(after);
      if (total === undefined) return undefined;
    }
    text = text.slice(0, slash);
  }
  const dash = text.indexOf('-');
  if (dash < 0) return undefined;
  const start = parseDigits(text.slice(0, dash));
  const last = parseDigits(text.slice(dash + 1));
  if (start === undefined || last === undefined || last < start || last === Number.MAX_SAFE_INTEGER) return undefined;
  if (total !== undefined && last >= total) return undefined;
  return { start, end: last + 1 };
}

/** `Range` of an upload's answer: what is stored so far. Nothing stored is `0-0`: never `0--1`, never absent. */
export function uploadRange(size: number): string {
  return `0-${size === 0 ? 0 : size - 1}`;
}

/** `Content-Range` of a 206. */
export function contentRange(range: ByteRange, size: number): string {
  return `bytes ${range.start}-${range.end - 1}/${size}`;
}
