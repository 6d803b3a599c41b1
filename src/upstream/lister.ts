/**
 * The lists of the seam over HTTP (distribution-spec, "Content Discovery"). Pages are followed by their Link as far as
 * it stays within this registry's own list; where an upstream knows no pages, its whole list is cut into ours. What is
 * not in the grammar is left out of tags and names; in referrers it is a lie, and refused.
 */
import { matchesGlob } from '../kit/glob.ts';
import { algorithmOf, hexOf, isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { OCI_INDEX } from '../oci/media-types.ts';
import type { Descriptor, Digest, RepositoryName, Tag } from '../oci/names.ts';
import { isRepositoryName } from '../oci/repository-name.ts';
import { isTag } from '../oci/tag.ts';
import type { OutboundAnswer } from '../outbound/client.ts';
import type { Call, Visibility } from '../registry/call.ts';
import type { Page, PageRequest, RegistryLister } from '../registry/registry.ts';
import { badAnswer } from './errors.ts';
import { type Ask, pullScope, type Upstream } from './exchange.ts';
import { wholeBody } from './reader.ts';

/** The largest list that is taken: registries without pages give all of it at once. */
const MOST_LIST = 32 * 1024 * 1024;
/** Pages with nothing in them that are gone through for one of ours. */
const MOST_EMPTY = 100;
const LONGEST_TEXT = 4 * 1024;

/** How one kind of list is asked for and read. */
interface Kind<T> {
  readonly ask: Omit<Ask, 'path'>;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  /** The items of a body; throws where it is none. */
  read(document: unknown): readonly T[];
  keyOf(item: T): string;
  /** What of them is wanted. */
  wanted(item: T): boolean;
}

/** The lister of an upstream. A `next` of its pages is a key, or a path of the upstream where only that goes on. */
export function upstreamLister(to: Upstream): RegistryLister {
  const { host } = to;

  async function onePage<T>(
    call: Call,
    kind: Kind<T>,
    page: PageRequest,
  ): Promise<Page<T> & { answer: OutboundAnswer }> {
    const { after, limit } = page;
    const given = after?.startsWith('/') === true ? linkOf(after, kind) : undefined;
    const query = new URLSearchParams({ ...kind.query, n: String(limit) });
    if (given === undefined && after !== undefined) query.set('last', after);
    const path = given ?? `${kind.path}?${query}`;
    const answer = await to.ask(call, { ...kind.ask, path });
    if (answer.status === 404) {
      answer.close();
      return { items: [], answer };
    }
    const all = kind.read(parse(await wholeBody(answer, call, MOST_LIST), host));
    const link = nextOf(answer, kind);
    // More than was asked for, or what comes before: it knows no pages, or goes on elsewhere.
    const ignored =
      all.length > limit ||
      (given === undefined && after !== undefined && all.some((one) => kind.keyOf(one) === after));
    if (!ignored) {
      const items = all.filter(kind.wanted);
      const next = link === undefined ? undefined : nextKey(link, all.at(-1), kind);
      return { items, answer, ...(next === undefined ? {} : { next }) };
    }
    const rest = sorted(all, kind).filter(
      (one) => after === undefined || given !== undefined || kind.keyOf(one) > after,
    );
    const items = rest.filter(kind.wanted);
    const shown = items.slice(0, limit);
    if (items.length > shown.length) return { items: shown, answer, next: kind.keyOf(shown.at(-1)!) };
    const next = link === undefined || rest.length === 0 ? undefined : nextKey(link, rest.at(-1), kind);
    return { items: shown, answer, ...(next === undefined ? {} : { next }) };
  }

  /** A page that is not empty, unless nothing follows. */
  async function page<T>(call: Call, kind: Kind<T>, asked: PageRequest): Promise<Page<T> & { answer: OutboundAnswer }> {
    let at = asked;
    for (let empty = 0; empty < MOST_EMPTY; empty++) {
      const found = await onePage(call, kind, at);
      if (found.items.length > 0 || found.next === undefined) return found;
      if (found.next === at.after) break;
      at = { ...asked, after: found.next };
    }
    throw badAnswer(host, 'a list that does not go on');
  }

  function linkOf<T>(path: string, kind: Kind<T>): URL {
    const list = to.at(kind.path);
    const url = to.own(path, list);
    if (url === undefined || url.pathname !== list.pathname) {
      throw new RegistryError('UNSUPPORTED', 'There is no such page.', { status: 400 });
    }
    return url;
  }

  /** The Link to the next page. One that leads out of this list is not followed: `elsewhere`, so we go on by key. */
  function nextOf<T>(answer: OutboundAnswer, kind: Kind<T>): URL | 'elsewhere' | undefined {
    for (const value of answer.headers('link')) {
      for (const [, target = '', rest = ''] of value.slice(0, LONGEST_TEXT).matchAll(/<([^<>]*)>([^<]*)/g)) {
        if (!/;\s*rel\s*=\s*"?next"?\s*(?:[;,]|$)/i.test(rest)) continue;
        const list = to.at(kind.path);
        const url = to.own(target, list);
        return url?.pathname === list.pathname ? url : 'elsewhere';
      }
    }
    return undefined;
  }

  return {
    async listRepositories(call, asked, visibility = 'all') {
      const kind: Kind<RepositoryName> = {
        ask: { scope: 'registry:catalog:*', unknown: 'NAME_UNKNOWN' },
        path: '_catalog',
        query: {},
        read: (document) => texts(document, 'repositories', host).filter(isRepositoryName),
        keyOf: (name) => name,
        wanted: (name) => isVisible(name, visibility),
      };
      return full(
        (one) => page(call, kind, one),
        asked,
        (name) => name,
      );
    },

    async listTags(call, repository, asked) {
      const kind: Kind<Tag> = {
        ask: { scope: pullScope(repository), unknown: 'NAME_UNKNOWN' },
        path: `${repository}/tags/list`,
        query: {},
        read: (document) => texts(document, 'tags', host).filter(isTag),
        keyOf: (tag) => tag,
        wanted: () => true,
      };
      return bare(await page(call, kind, asked));
    },

    async listReferrers(call, repository, subject, artifactType, asked) {
      const kind: Kind<Descriptor> = {
        ask: { scope: pullScope(repository), unknown: 'NAME_UNKNOWN', headers: { accept: OCI_INDEX }, also: [404] },
        path: `${repository}/referrers/${subject}`,
        query: artifactType === undefined ? {} : { artifactType },
        read: (document) => descriptors(document, host),
        keyOf: (one) => one.digest,
        wanted: (one) => artifactType === undefined || one.artifactType === artifactType,
      };
      let found = await page(call, kind, asked);
      if (found.answer.status === 404) {
        // No referrers API: the fallback tag's index has them (distribution-spec, "Referrers Tag Schema").
        const tag = fallbackTag(subject);
        found = await page(call, { ...kind, path: `${repository}/manifests/${tag}` }, asked);
      }
      return { ...bare(found), filtered: artifactType !== undefined };
    },
  };
}

function fallbackTag(subject: Digest): Tag {
  return `${algorithmOf(subject)}-${hexOf(subject).slice(0, 64)}` as Tag;
}

function bare<T>({ items, next }: Page<T>): Page<T> {
  return { items, ...(next === undefined ? {} : { next }) };
}

/** Pages of which much is left out are joined until one is full. */
async function full<T>(
  list: (page: PageRequest) => Promise<Page<T>>,
  asked: PageRequest,
  keyOf: (item: T) => string,
): Promise<Page<T>> {
  const items: T[] = [];
  let { after } = asked;
  for (let pages = 0; ; pages++) {
    const page = await list(after === undefined ? asked : { ...asked, after });
    for (const item of page.items) {
      if (items.length === asked.limit) return { items, next: keyOf(items.at(-1)!) };
      items.push(item);
    }
    if (page.next === undefined) return { items };
    if (items.length === asked.limit) return { items, next: page.next };
    if (pages === MOST_EMPTY) return items.length > 0 ? { items, next: page.next } : { items };
    after = page.next;
  }
}

function isVisible(name: RepositoryName, visibility: Visibility): boolean {
  if (visibility === 'all') return true;
  return (
    visibility.ranges.some(({ from, to }) => name >= from && name < to) ||
    visibility.patterns.some((pattern) => matchesGlob(pattern, name))
  );
}

function sorted<T>(all: readonly T[], kind: Kind<T>): T[] {
  const once = new Map(all.map((one) => [kind.keyOf(one), one]));
  return [...once].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
}

/** A key where the Link says no more than that; else its path, which a key can never be. */
function nextKey<T>(link: URL | 'elsewhere', last: T | undefined, kind: Kind<T>): string | undefined {
  const key = last === undefined ? undefined : kind.keyOf(last);
  if (link === 'elsewhere') return key;
  return key !== undefined && link.searchParams.get('last') === key ? key : `${link.pathname}${link.search}`;
}

function parse(bytes: Uint8Array, host: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw badAnswer(host, 'a list that is not JSON');
  }
}

function texts(document: unknown, name: string, host: string): string[] {
  const list = (document as Record<string, unknown> | null)?.[name];
  if (list === null || list === undefined) {
    if (typeof document === 'object' && document !== null && name in document) return [];
    throw badAnswer(host, `a list without "${name}"`);
  }
  if (!Array.isArray(list)) throw badAnswer(host, `"${name}" is not a list`);
  return list.filter((one) => typeof one === 'string');
}

function descriptors(document: unknown, host: string): Descriptor[] {
  const list = (document as { manifests?: unknown } | null)?.manifests;
  if (list === null) return [];
  if (!Array.isArray(list)) throw badAnswer(host, 'an index without "manifests"');
  return list.map((one) => descriptorOf(one, host));
}

function descriptorOf(value: unknown, host: string): Descriptor {
  const { mediaType, digest, size, artifactType, annotations } = (value ?? {}) as Record<string, unknown>;
  const isText = (text: unknown): text is string => typeof text === 'string' && text.length <= LONGEST_TEXT;
  if (typeof digest !== 'string' || !isDigest(digest)) throw badAnswer(host, 'a referrer whose digest is none');
  if (!isText(mediaType)) throw badAnswer(host, 'a referrer without a media type');
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
    throw badAnswer(host, 'a referrer without a size');
  return {
    mediaType,
    digest,
    size,
    ...(isText(artifactType) && artifactType !== '' ? { artifactType } : {}),
    ...(isTextMap(annotations) ? { annotations } : {}),
  };
}

function isTextMap(value: unknown): value is Record<string, string> {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.values(value).every((text) => typeof text === 'string')
  );
}
