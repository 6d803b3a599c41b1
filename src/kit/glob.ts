/**
 * Patterns over repository names and tags, in time linear in pattern times text and without regular expressions:
 * `*` stands for any run without `/`, `**` for any run, `?` for one character that is not `/`.
 */

/** Whether the whole text matches. Both are bounded by the caller; the work is at most their lengths multiplied. */
export function matchesGlob(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  // Where to go back to: behind the last star of each kind, and how much of the text it had taken.
  let star = -1;
  let starText = 0;
  let deep = -1;
  let deepText = 0;
  while (t < text.length || p < pattern.length) {
    const c = pattern[p];
    if (c === '*') {
      if (pattern[p + 1] === '*') {
        p += 2;
        deep = p;
        deepText = t;
        star = -1;
      } else {
        p += 1;
        star = p;
        starText = t;
      }
      continue;
    }
    if (t < text.length && (c === text[t] || (c === '?' && text[t] !== '/'))) {
      p++;
      t++;
      continue;
    }
    if (star >= 0 && starText < text.length && text[starText] !== '/') {
      p = star;
      t = ++starText;
      continue;
    }
    if (deep >= 0 && deepText < text.length) {
      star = -1;
      p = deep;
      t = ++deepText;
      continue;
    }
    return false;
  }
  return true;
}

/** Whether one of the `include` patterns matches and none of the `except` patterns. */
export function selects(include: readonly string[], except: readonly string[], text: string): boolean {
  return include.some((pattern) => matchesGlob(pattern, text)) && !except.some((pattern) => matchesGlob(pattern, text));
}
