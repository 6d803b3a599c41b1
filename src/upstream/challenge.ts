/** WWW-Authenticate as registries write it (RFC 9110 §11.6.1; Distribution's token specification). One linear pass. */

/** One challenge: its scheme in lower case, its parameters with names in lower case; the first of a name counts. */
export interface Challenge {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

const LONGEST = 8 * 1024;
const TOKEN = /[!#$%&'*+.^_`|~\w-]/;

/** The challenges of all the header's values, in order. What cannot be read is left out; beyond 8 KiB nothing is. */
export function parseChallenges(values: readonly string[]): readonly Challenge[] {
  const text = values.join(', ').slice(0, LONGEST);
  const found: { scheme: string; parameters: Map<string, string> }[] = [];
  let at = 0;
  const skip = (what: string): void => {
    while (at < text.length && what.includes(text[at]!)) at++;
  };
  const token = (): string => {
    const from = at;
    while (at < text.length && TOKEN.test(text[at]!)) at++;
    return text.slice(from, at);
  };
  for (;;) {
    skip(' \t,');
    if (at >= text.length) return found;
    const word = token().toLowerCase();
    if (word === '') {
      at++;
      continue;
    }
    skip(' \t');
    if (text[at] !== '=') {
      found.push({ scheme: word, parameters: new Map() });
      continue;
    }
    at++;
    skip(' \t');
    const value = text[at] === '"' ? quoted() : token();
    const parameters = found.at(-1)?.parameters;
    if (parameters !== undefined && !parameters.has(word)) parameters.set(word, value);
  }

  function quoted(): string {
    let value = '';
    for (at++; at < text.length && text[at] !== '"'; at++) {
      if (text[at] === '\\' && at + 1 < text.length) at++;
      value += text[at];
    }
    at++;
    return value;
  }
}
