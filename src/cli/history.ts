/** `longshore tag …`, `deleted`, `undelete`, `purge`: what happened to tags, and taking it back, over the REST API. */
import { clientFor, repositoryPath, table } from './client.ts';
import { type Given, UsageError } from './command-line.ts';
import { json, say } from './output.ts';

interface Actor {
  readonly id: string;
  readonly name?: string;
}

interface Entry {
  readonly sequence: number;
  readonly kind: string;
  readonly from?: string;
  readonly to?: string;
  readonly at: string;
  readonly actor?: Actor;
  readonly origin?: { readonly address?: string; readonly userAgent?: string };
}

interface Deleted {
  readonly kind: 'tag' | 'manifest';
  readonly tag?: string;
  readonly digest: string;
  readonly deletedAt?: string;
  readonly actor?: Actor;
  readonly secondsLeft: number;
  readonly held: boolean;
}

/** As much of a digest as tells it apart. */
function short(digest: string | undefined): string {
  return digest === undefined ? '-' : digest.slice(0, digest.indexOf(':') + 13);
}

function who(actor: Actor | undefined): string {
  return actor === undefined ? '-' : (actor.name ?? actor.id);
}

function tagPath(given: Given): string {
  const [repository = '', tag = ''] = given.positionals;
  return `${repositoryPath(repository)}/tags/${encodeURIComponent(tag)}`;
}

/** `tag history REPOSITORY TAG` */
export async function showTagHistory(given: Given): Promise<number> {
  const client = await clientFor(given);
  const entries = await client.all<Entry>(`${tagPath(given)}/history`);
  if (json(given, entries)) return 0;
  return say(
    table([
      ['SEQUENCE', 'WHEN', 'WHAT', 'FROM', 'TO', 'WHO', 'ADDRESS', 'PROGRAM'],
      ...entries.map(({ sequence, at, kind, from, to, actor, origin }) => [
        String(sequence),
        at,
        kind,
        short(from),
        short(to),
        who(actor),
        origin?.address ?? '-',
        origin?.userAgent ?? '-',
      ]),
    ]),
  );
}

/** `tag rollback REPOSITORY TAG --to DIGEST|SEQUENCE` */
export async function rollBack(given: Given): Promise<number> {
  const { to, expect } = given.flags;
  if (typeof to !== 'string') throw new UsageError('Say where the tag shall go back to: --to DIGEST or --to SEQUENCE.');
  const client = await clientFor(given);
  const target = /^\d{1,15}$/.test(to) ? Number(to) : to;
  const body = { to: target, ...expected(expect) };
  const done = await client.ask<{ tag: string; digest: string }>('POST', `${tagPath(given)}/rollback`, body);
  return json(given, done) ? 0 : say(`${done.tag} is at ${done.digest}.`);
}

/** `--expect DIGEST`, or `--expect none` for a tag that must not exist. */
function expected(expect: string | true | undefined): { expect?: string | null } {
  if (typeof expect !== 'string') return {};
  return { expect: expect === 'none' ? null : expect };
}

/** `tag undelete REPOSITORY TAG` */
export async function undeleteTag(given: Given): Promise<number> {
  const client = await clientFor(given);
  const body = expected(given.flags.expect);
  const done = await client.ask<{ tag: string; digest: string }>('POST', `${tagPath(given)}/undelete`, body);
  return json(given, done) ? 0 : say(`${done.tag} is back, at ${done.digest}.`);
}

/** `deleted REPOSITORY` */
export async function listDeleted(given: Given): Promise<number> {
  const client = await clientFor(given);
  const entries = await client.all<Deleted>(`${repositoryPath(given.positionals[0]!)}/deleted`);
  if (json(given, entries)) return 0;
  if (entries.length === 0) return say('Nothing that was deleted can be brought back.');
  return say(
    table([
      ['WHAT', 'DIGEST', 'DELETED', 'WHO', 'LEFT'],
      ...entries.map(({ kind, tag, digest, deletedAt, actor, secondsLeft, held }) => [
        kind === 'tag' ? `tag ${tag}` : 'manifest',
        kind === 'tag' ? short(digest) : digest,
        deletedAt ?? '-',
        who(actor),
        held ? 'held' : about(secondsLeft),
      ]),
    ]),
  );
}

/** Seconds as people say them. */
function about(seconds: number): string {
  if (seconds >= 172_800) return `about ${Math.round(seconds / 86_400)} days`;
  if (seconds >= 7_200) return `about ${Math.round(seconds / 3_600)} hours`;
  return seconds === 0 ? 'until the next collection' : `about ${Math.max(1, Math.round(seconds / 60))} minutes`;
}

/** `undelete REPOSITORY REFERENCE`: a digest, or a tag. */
export async function undelete(given: Given): Promise<number> {
  const [repository = '', reference = ''] = given.positionals;
  if (!reference.includes(':')) return undeleteTag(given);
  const client = await clientFor(given);
  const path = `${repositoryPath(repository)}/manifests/${encodeURIComponent(reference)}/undelete`;
  const done = await client.ask<{ digest: string }>('POST', path);
  return json(given, done) ? 0 : say(`${done.digest} is back, without tags.`);
}

/** `purge REPOSITORY REFERENCE` */
export async function purge(given: Given): Promise<number> {
  const [repository = '', reference = ''] = given.positionals;
  const client = await clientFor(given);
  const kind = reference.includes(':') ? 'manifests' : 'tags';
  await client.ask('DELETE', `${repositoryPath(repository)}/deleted/${kind}/${encodeURIComponent(reference)}`);
  return json(given, { purged: reference }) ? 0 : say(`${reference} cannot be brought back any more.`);
}
