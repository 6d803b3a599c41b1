/** The one pattern language of rules and visibility: `*` is any run of characters (also `/`), `?` is one. No regular expression. */

/** Whether the whole text matches. At most pattern × text steps, whatever the pattern (no backtracking tree). */
export function globMatches(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  let star = -1; // where the last `*` stood
  let mark = 0; // where in the text it began to match
  while (t < text.length) {
    if (p < pattern.length && pattern[p] === '*') {
      star = p++;
      mark = t;
    } else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === text[t])) {
      p++;
      t++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++mark;
    } else return false;
  }
  while (pattern[p] === '*') p++;
  return p === pattern.length;
}

/** Whether the text matches one of `include` and none of `except`. */
export function globSelects(include: readonly string[], except: readonly string[], text: string): boolean {
  return include.some((one) => globMatches(one, text)) && !except.some((one) => globMatches(one, text));
}
