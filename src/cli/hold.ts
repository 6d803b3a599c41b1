/** `longshore hold …` over the REST API. */
import { clientFor, repositoryPath, table } from './client.ts';
import { type Given, UsageError } from './command-line.ts';
import { json, say } from './output.ts';

interface Hold {
  readonly id: string;
  readonly repository: string;
  readonly tag?: string;
  readonly digest?: string;
  readonly reason: string;
  readonly actor?: { readonly id: string; readonly name?: string };
  readonly until?: string;
  readonly active: boolean;
}

function what({ repository, tag, digest }: Hold): string {
  if (tag !== undefined) return `${repository}:${tag}`;
  return digest === undefined ? repository : `${repository}@${digest}`;
}

/** `hold add REPOSITORY --reason TEXT` */
export async function addHold(given: Given): Promise<number> {
  const { tag, digest, reason, until } = given.flags;
  if (typeof reason !== 'string' || reason.trim() === '') throw new UsageError('Say why it is held: --reason TEXT.');
  const client = await clientFor(given);
  const hold = await client.ask<Hold>('POST', `${repositoryPath(given.positionals[0]!)}/holds`, {
    reason,
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
    ...(typeof until === 'string' ? { until: moment(until) } : {}),
  });
  return json(given, hold) ? 0 : say(`${what(hold)} is held: ${hold.id}`);
}

/** A day is its first moment, UTC. */
function moment(text: string): string {
  return /^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00:00Z` : text;
}

/** `hold list [--repository NAME]` */
export async function listHolds(given: Given): Promise<number> {
  const { repository } = given.flags;
  const client = await clientFor(given);
  const holds = await client.all<Hold>(
    typeof repository === 'string' ? `${repositoryPath(repository)}/holds` : '/holds',
  );
  if (json(given, holds)) return 0;
  if (holds.length === 0) return say('There are no holds.');
  return say(
    table([
      ['ID', 'ON', 'BY', 'UNTIL', 'REASON'],
      ...holds.map((hold) => [
        hold.id,
        what(hold),
        hold.actor?.name ?? hold.actor?.id ?? '-',
        hold.active ? (hold.until ?? 'lifted') : 'ended',
        hold.reason,
      ]),
    ]),
  );
}

/** `hold remove ID` */
export async function removeHold(given: Given): Promise<number> {
  const id = given.positionals[0]!;
  const client = await clientFor(given);
  await client.ask('DELETE', `/holds/${encodeURIComponent(id)}`);
  return json(given, { lifted: id }) ? 0 : say('The hold is lifted.');
}
