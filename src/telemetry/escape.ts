/**
 * What a log line must not carry raw: JSON escapes the control characters below 0x20; these are the others with which
 * a terminal or a viewer can be made to show lines that were never written (C1 controls, line separators, changes of
 * direction).
 */
const HIDDEN = /[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** The line with such characters as \uXXXX. Only ever inside JSON strings, so the JSON stays the same value. */
export function escapeHidden(line: string): string {
  return HIDDEN.test(line)
    ? line.replace(HIDDEN, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
    : line;
}

/** A JSON string of at most `most` characters of the text. */
export function quoted(text: string, most: number): string {
  return escapeHidden(JSON.stringify(text.length > most ? `${text.slice(0, most)}…` : text));
}

const SECRETS = [
  // An Authorization header's value, wherever it was quoted.
  [/\b(Basic|Bearer)\s+[A-Za-z0-9+/_.~=-]{4,}/gi, '$1 ***'],
  // Credentials in an address.
  [/([a-z][a-z0-9+.-]*:\/\/)[^\s/@:"]*:[^\s/@"]*@/gi, '$1***@'],
  // Query parameters of presigned addresses and token requests.
  [
    /([?&](?:[a-z-]*signature|[a-z-]*credential|[a-z_-]*token|password|sig|access_key|client_secret)=)[^&\s"]+/gi,
    '$1***',
  ],
] as const;

/** The text without what looks like a credential. A last net: whoever has a secret leaves it out of what is logged. */
export function withoutSecrets(text: string): string {
  let clean = text;
  for (const [pattern, replacement] of SECRETS) clean = clean.replace(pattern, replacement);
  return clean;
}
