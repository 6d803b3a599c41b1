/**
 * The query, by hand: `+` stays `+` (media types have it), every escape must be UTF-8, no control characters, and a
 * parameter that means something may not say two things. Parameters that nobody asks for are ignored. Bounded by the
 * target's own bound.
 */
import { RegistryError } from '../oci/error.ts';

/** What may be asked in a query of `/v2/`. `tag` may stand several times. */
export interface Query {
  readonly digest?: string;
  readonly mount?: string;
  readonly from?: string;
  readonly 'digest-algorithm'?: string;
  readonly n?: string;
  readonly last?: string;
  readonly artifactType?: string;
  readonly ns?: string;
  /** Each tag once, in the order given. */
  readonly tag: readonly string[];
}

const SINGLE = new Set(['digest', 'mount', 'from', 'digest-algorithm', 'n', 'last', 'artifactType', 'ns']);
const NONE: Query = { tag: [] };

/** The query of a raw target. RegistryError UNSUPPORTED with status 400 where it is malformed. */
export function parseQuery(target: string): Query {
  const question = target.indexOf('?');
  if (question < 0 || question === target.length - 1) return NONE;
  const found: Record<string, string> = Object.create(null);
  const tags = new Set<string>();
  let at = question + 1;
  while (at <= target.length) {
    let end = target.indexOf('&', at);
    if (end < 0) end = target.length;
    if (end > at) {
      let equals = target.indexOf('=', at);
      if (equals < 0 || equals > end) equals = end;
      const name = decode(target.slice(at, equals));
      const value = equals < end ? decode(target.slice(equals + 1, end)) : '';
      if (name === 'tag') tags.add(value);
      else if (SINGLE.has(name)) {
        const before = found[name];
        if (before !== undefined && before !== value) {
          throw bad(`The query parameter "${name}" is given twice with different values.`);
        }
        found[name] = value;
      }
    }
    at = end + 1;
  }
  return Object.assign(found, { tag: [...tags] }) as unknown as Query;
}

function decode(text: string): string {
  let decoded = text;
  if (text.includes('%')) {
    try {
      decoded = decodeURIComponent(text);
    } catch {
      throw bad('The query has a percent escape that is not valid UTF-8.');
    }
  }
  for (let i = 0; i < decoded.length; i++) {
    const c = decoded.charCodeAt(i);
    if (c < 32 || c === 127) throw bad('The query has a control character.');
  }
  return decoded;
}

/** A request that is wrong in a way that the specification has no code for. */
export function bad(message: string, status = 400): RegistryError {
  return new RegistryError('UNSUPPORTED', message, { status });
}
