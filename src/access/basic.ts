/** The words of an Authorization header (RFC 7617, RFC 6750). */

/** Longest header that is looked at. */
export const MAX_AUTHORIZATION = 16 * 1024;

/** A header taken apart; `bad` where it is neither. Basic with an empty name and password is no credentials at all. */
export type Credentials =
  | { readonly scheme: 'none' }
  | { readonly scheme: 'bad' }
  | { readonly scheme: 'basic'; readonly name: string; readonly password: string }
  | { readonly scheme: 'bearer'; readonly token: string };

const BAD: Credentials = { scheme: 'bad' };
const NONE: Credentials = { scheme: 'none' };
const HEADER = /^([A-Za-z]{5,6}) +([A-Za-z0-9._~+/-]+=*) *$/;
const CONTROL = /[\u0000-\u001f\u007f]/;

/** Takes it apart. The name ends at the first colon; both are UTF-8. */
export function parseAuthorization(header: string): Credentials {
  if (header.length > MAX_AUTHORIZATION) return BAD;
  const parts = HEADER.exec(header);
  if (parts === null) return BAD;
  const scheme = parts[1]!.toLowerCase();
  if (scheme === 'bearer') return { scheme, token: parts[2]! };
  if (scheme !== 'basic') return BAD;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(parts[2]!, 'base64'));
  } catch {
    return BAD;
  }
  const colon = text.indexOf(':');
  if (colon === -1 || CONTROL.test(text)) return BAD;
  const name = text.slice(0, colon);
  const password = text.slice(colon + 1);
  return name === '' && password === '' ? NONE : { scheme, name, password };
}
