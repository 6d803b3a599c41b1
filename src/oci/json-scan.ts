/**
 * One linear pass over JSON text for what `JSON.parse` lets through and a registry must not: two readings of one
 * document (duplicate keys) and depth without bound. It does not validate the rest; `JSON.parse` does.
 */

const QUOTE = 34;
const BACKSLASH = 92;

/** Undefined where all is well, else what is wrong, for a person. `text` may be several MiB. */
export function scanJson(text: string, maxDepth: number): string | undefined {
  const keys: (Set<string> | undefined)[] = []; // one per open bracket: the keys of an object, undefined for an array
  let expectKey = false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === QUOTE) {
      const start = i;
      let escaped = false;
      for (i++; i < text.length; i++) {
        const inner = text.charCodeAt(i);
        if (inner === QUOTE) break;
        if (inner === BACKSLASH) {
          escaped = true;
          i++;
        }
      }
      if (!expectKey) continue;
      expectKey = false;
      const key = readKey(text, start, i, escaped);
      const seen = keys[keys.length - 1];
      if (key === undefined || seen === undefined) continue;
      if (seen.has(key)) return `the key ${JSON.stringify(key.slice(0, 100))} stands twice in one object`;
      seen.add(key);
    } else if (c === 123 || c === 91) {
      if (keys.length >= maxDepth) return `it is nested deeper than ${maxDepth} levels`;
      keys.push(c === 123 ? new Set() : undefined);
      expectKey = c === 123;
    } else if (c === 125 || c === 93) {
      keys.pop();
      expectKey = false;
    } else if (c === 44) {
      expectKey = keys[keys.length - 1] !== undefined;
    }
  }
  return undefined;
}

/** The key between the quotes; undefined where it is not valid JSON (`JSON.parse` will say so). */
function readKey(text: string, start: number, end: number, escaped: boolean): string | undefined {
  if (!escaped) return text.slice(start + 1, end);
  try {
    return JSON.parse(text.slice(start, end + 1)) as string;
  } catch {
    return undefined;
  }
}
