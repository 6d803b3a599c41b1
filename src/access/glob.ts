/**
 * Glob patterns over repository names: `*` is any run of characters within one path part, `**` any run at all
 * (`team/**` is what lies below `team/`, not `team`). Nothing else is special. No regular expressions: at most
 * pattern × text steps, and as literals must consume text, a hostile pattern ends after the text does.
 */
import type { Visibility } from '../registry/call.ts';

const SLASH = 47;
const STAR = 42;

/** Whether the whole text matches. */
export function matchGlob(pattern: string, text: string): boolean {
  const end = text.length;
  // reached[p]: the pattern so far can match exactly the first p characters.
  let reached = new Uint8Array(end + 1);
  let next = new Uint8Array(end + 1);
  reached[0] = 1;
  for (let i = 0; i < pattern.length; ) {
    const c = pattern.charCodeAt(i++);
    let any = 0;
    if (c === STAR) {
      const from = i;
      while (pattern.charCodeAt(i) === STAR) i++;
      const across = i > from;
      for (let p = 0, open = 0; p <= end; p++) {
        if (!across && p > 0 && text.charCodeAt(p - 1) === SLASH) open = 0;
        open |= reached[p]!;
        next[p] = open;
        any |= open;
      }
    } else {
      next[0] = 0;
      for (let p = 0; p < end; p++) {
        const hit = reached[p]! & (text.charCodeAt(p) === c ? 1 : 0);
        next[p + 1] = hit;
        any |= hit;
      }
    }
    if (any === 0) return false;
    [reached, next] = [next, reached];
  }
  return reached[end] === 1;
}

/** A pattern made ready: names and `prefix**` are compared directly. */
export function compileGlob(pattern: string): (text: string) => boolean {
  const star = pattern.indexOf('*');
  if (star === -1) return (text) => text === pattern;
  if (star === pattern.length - 2 && pattern.endsWith('**')) {
    const prefix = pattern.slice(0, star);
    return (text) => text.startsWith(prefix);
  }
  return (text) => matchGlob(pattern, text);
}

/**
 * What a listing may show under these patterns: ranges where a pattern is a name or `prefix**`, else the pattern
 * itself, which SQL may take for a wider one (with-access looks at each name again).
 */
export function visibilityOf(patterns: readonly string[]): Visibility {
  const ranges: { from: string; to: string }[] = [];
  const others: string[] = [];
  for (const pattern of patterns) {
    const star = pattern.indexOf('*');
    if (star === -1) ranges.push({ from: pattern, to: `${pattern}\0` });
    else if (star === pattern.length - 2 && pattern.endsWith('**')) {
      if (star === 0) return 'all';
      const prefix = pattern.slice(0, star);
      const last = prefix.charCodeAt(star - 1);
      // Names are ASCII; a prefix that ends in anything else matches none.
      if (last < 0x7f) ranges.push({ from: prefix, to: prefix.slice(0, -1) + String.fromCharCode(last + 1) });
    } else others.push(pattern);
  }
  return { ranges, patterns: others, ids: [] };
}
