/**
 * Patterns of rules over repository names, made ready: `*` is any run of characters within one path part, `**` any
 * run at all (`team/**` is what lies below `team/`, not `team` itself), `?` one character. The matcher is kit's.
 */
import { matchesGlob } from '../kit/glob.ts';
import type { Visibility } from '../registry/call.ts';

/** The pattern's text before `**`, where that ends it and nothing else is special. */
function prefixOf(pattern: string): string | undefined {
  const special = pattern.search(/[*?]/);
  return special === pattern.length - 2 && pattern.endsWith('**') ? pattern.slice(0, special) : undefined;
}

/** A pattern made ready: names and `prefix**` are compared directly. */
export function compileGlob(pattern: string): (text: string) => boolean {
  if (!/[*?]/.test(pattern)) return (text) => text === pattern;
  const prefix = prefixOf(pattern);
  if (prefix !== undefined) return (text) => text.startsWith(prefix);
  return (text) => matchesGlob(pattern, text);
}

/**
 * What a listing may show under these patterns: ranges where a pattern is a name or `prefix**`, else the pattern
 * itself, which SQL may take for a wider one (with-access looks at each name again).
 */
export function visibilityOf(patterns: readonly string[]): Visibility {
  const ranges: { from: string; to: string }[] = [];
  const others: string[] = [];
  for (const pattern of patterns) {
    const prefix = prefixOf(pattern);
    if (prefix === '') return 'all';
    if (!/[*?]/.test(pattern)) ranges.push({ from: pattern, to: `${pattern}\0` });
    else if (prefix === undefined) others.push(pattern);
    else {
      const last = prefix.charCodeAt(prefix.length - 1);
      // Names are ASCII; a prefix that ends in anything else begins none.
      if (last < 0x7f) ranges.push({ from: prefix, to: prefix.slice(0, -1) + String.fromCharCode(last + 1) });
    }
  }
  return { ranges, patterns: others, ids: [] };
}
