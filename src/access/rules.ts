/** Turns the configuration into standings: what each person holds at each repository. */
import type { Action, Principal, Visibility } from '../registry/call.ts';
import type { Standing } from './access.ts';
import type { AccessRule, AnonymousMode, RuleAction } from './config.ts';
import { compileGlob, visibilityOf } from './glob.ts';

/** Where decisions take their facts from. */
export interface Standings {
  /** `repository` empty: the registry itself. */
  standing(principal: Principal, repository: string): Standing;
  /** What the account may pull from, not looking at a token's bounds. */
  pullable(principal: Principal): Visibility;
}

const ROLES_ALLOW: ReadonlyMap<Action, readonly string[]> = new Map<Action, readonly string[]>([
  ['repository.pull', ['puller']],
  ['repository.push', ['pusher']],
  ['repository.delete', ['deleter']],
  ['repository.purge', ['purger']],
  ['repository.hold', ['holder']],
  ['registry.catalog', ['lister']],
  ['registry.admin', ['admin']],
]);

const ROLES_OF: Readonly<Record<RuleAction, readonly string[]>> = {
  pull: ['puller'],
  push: ['pusher'],
  delete: ['deleter'],
  purge: ['purger'],
  hold: ['holder'],
  admin: ['puller', 'pusher', 'deleter', 'purger', 'holder', 'admin'],
};
/** The pattern that means every repository, and so the registry itself. */
const EVERYWHERE = '**';

const NONE: readonly string[] = [];
/** What anonymous push mode gives to everyone, and every account has while there are no rules. */
const OPEN: readonly string[] = ['puller', 'pusher', 'deleter', 'lister'];
const OPEN_TO_READ: readonly string[] = ['puller', 'lister'];
const NOTHING: Visibility = { ranges: [], patterns: [], ids: [] };

interface Grant {
  readonly users: ReadonlySet<string>;
  readonly patterns: readonly string[];
  readonly matches: readonly ((name: string) => boolean)[];
  readonly roles: readonly string[];
}

/** What anonymous mode gives to everyone, signed in or not. */
function openRoles(mode: AnonymousMode): readonly string[] {
  if (mode === 'push') return OPEN;
  return mode === 'pull' ? OPEN_TO_READ : NONE;
}

/**
 * Standings by the rules. `rules` undefined: every account may pull, push and delete everywhere. `mode` is asked each time,
 * as it changes with the first user. Rules are for people: robots and workloads get nothing from them.
 */
export function standingsFrom(rules: readonly AccessRule[] | undefined, mode: () => AnonymousMode): Standings {
  const grants = rules?.map((rule) => ({
    users: new Set(rule.users),
    patterns: rule.repositories,
    matches: rule.repositories.map(compileGlob),
    roles: rule.actions.flatMap((action) => ROLES_OF[action]),
  }));
  const byUser = new Map<string, Grant[]>();
  for (const grant of grants ?? []) {
    for (const name of grant.users) {
      const own = byUser.get(name);
      if (own === undefined) byUser.set(name, [grant]);
      else own.push(grant);
    }
  }
  const everyone = byUser.get('*') ?? [];
  const grantsOf = (principal: Principal): readonly Grant[] => [...(byUser.get(principal.name) ?? []), ...everyone];

  const rolesOf = (principal: Principal, repository: string): readonly string[] => {
    const open = openRoles(mode());
    if (principal.kind !== 'user') return open;
    if (grants === undefined) return OPEN;
    const roles = new Set<string>([...open, 'lister']);
    if (repository === '') {
      const isAdmin = ({ roles: own, patterns }: Grant): boolean =>
        own.includes('admin') && patterns.includes(EVERYWHERE);
      if (grantsOf(principal).some(isAdmin)) roles.add('admin');
    } else {
      for (const grant of grantsOf(principal)) {
        if (grant.matches.some((match) => match(repository))) for (const role of grant.roles) roles.add(role);
      }
    }
    return [...roles];
  };

  return {
    standing: (principal, repository) => ({
      repository,
      roles: rolesOf(principal, repository),
      visibility: mode() === 'none' ? 'private' : 'public',
      rolesAllow: ROLES_ALLOW,
    }),
    pullable: (principal) => {
      if (principal.kind === 'system' || mode() !== 'none') return 'all';
      if (principal.kind !== 'user') return NOTHING;
      if (grants === undefined) return 'all';
      const pulls = grantsOf(principal).filter((grant) => grant.roles.includes('puller'));
      return visibilityOf(pulls.flatMap((grant) => grant.patterns));
    },
  };
}
