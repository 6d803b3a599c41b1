/** Which immutability rules a change meets. Pure. */
import { matchesGlob } from '../../kit/glob.ts';
import type { Change, Guard, Operation } from '../../registry/guard.ts';
import type { ImmutabilityConfig } from './config.ts';

/** The operations that may move or delete a tag, also through a digest or a whole repository. */
const CONCERNED: ReadonlySet<Operation> = new Set([
  'manifest.push',
  'manifest.delete',
  'tag.delete',
  'restore',
  'repository.delete',
]);

/** One guard for each rule that holds in the change's repository. The command applies it to every tag it would move. */
export function guardsOf(rules: ImmutabilityConfig['rules'], change: Change): Guard[] {
  if (!CONCERNED.has(change.operation)) return [];
  return rules
    .filter((rule) => rule.repositories.some((pattern) => matchesGlob(pattern, change.repository)))
    .map((rule) => ({ kind: 'tags-unmoved', rule: rule.name, include: rule.tags, except: rule.except }));
}
