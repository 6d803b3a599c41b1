/**
 * Patterns over repository names and tags, in time linear in pattern times text and without regular expressions:
 * `*` stands for any run without `/`, `**` for any run, `?` for one character that is not `/`.
 */

/** Longest text and longest pattern that are looked at: nothing longer is a name or a tag. */
export const MAX_GLOB = 1024;

/**
 * Whether the whole text matches; nothing longer than 1,024 characters does. All places of the pattern that the text so
 * far may have reached are followed at once, so that no pattern makes it start over.
 */
export function matchesGlob(pattern: string, text: string): boolean {
  if (pattern.length > MAX_GLOB || text.length > MAX_GLOB) return false;
  const length = pattern.length;
  let reached = new Uint8Array(length + 1);
  let next = new Uint8Array(length + 1);
  reach(pattern, reached, 0);
  for (let t = 0; t < text.length; t++) {
    const c = text.charCodeAt(t);
    let any = false;
    next.fill(0);
    for (let p = 0; p < length; p++) {
      if (reached[p] === 0) continue;
      const wanted = pattern.charCodeAt(p);
      if (wanted === STAR) {
        const deep = pattern.charCodeAt(p + 1) === STAR;
        if (c === SLASH && !deep) continue;
        reach(pattern, next, p);
      } else if (wanted === c || (wanted === QUESTION && c !== SLASH)) {
        reach(pattern, next, p + 1);
      } else continue;
      any = true;
    }
    if (!any) return false;
    [reached, next] = [next, reached];
  }
  return reached[length] === 1;
}

const STAR = 42;
const SLASH = 47;
const QUESTION = 63;

/** Marks place `p` and what can be reached from it without a character: a star may stand for nothing. */
function reach(pattern: string, places: Uint8Array, p: number): void {
  let at = p;
  while (places[at] === 0) {
    places[at] = 1;
    if (pattern.charCodeAt(at) !== STAR) return;
    at += pattern.charCodeAt(at + 1) === STAR ? 2 : 1;
  }
}

/** Whether one of the `include` patterns matches and none of the `except` patterns. */
export function selects(include: readonly string[], except: readonly string[], text: string): boolean {
  return include.some((pattern) => matchesGlob(pattern, text)) && !except.some((pattern) => matchesGlob(pattern, text));
}
