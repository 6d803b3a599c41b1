/** The decisions of a running server: the rules, asked once per principal, action and repository and then remembered. */
import type { RepositoryName } from '../oci/names.ts';
import type { Action, Decision, Principal } from '../registry/call.ts';
import type { Access } from './access.ts';
import type { AccessRule, AnonymousMode } from './config.ts';
import { decide } from './decide.ts';
import { compileGlob, visibilityOf } from './glob.ts';
import { type Standings, standingsFrom } from './rules.ts';

/** Most decisions remembered; beyond it all are forgotten. */
const MAX_REMEMBERED = 100_000;

/** Where `registry.catalog` is asked: it is about no repository. */
export const REGISTRY_ITSELF = '' as RepositoryName;

/** Access that answers at once, with rules that can be replaced while it runs. */
export interface Rights extends Access {
  may(call: { readonly principal: Principal }, action: Action, repository: RepositoryName): Decision;
  /** New rules, from the next question on. */
  setRules(rules: readonly AccessRule[] | undefined): void;
}

type Remembered = Map<Action, Map<string, Decision>>;

/** Decides by the rules. `mode` is asked at every question; when it changes, all that was remembered is forgotten. */
export function rightsFrom(rules: readonly AccessRule[] | undefined, mode: () => AnonymousMode): Rights {
  let standings: Standings = standingsFrom(rules, mode);
  // By identity: authentication gives the same object for the same token, and lost ones are collected with it.
  let remembered = new WeakMap<Principal, Remembered>();
  let count = 0;
  let lastMode = mode();

  const forget = (): void => {
    remembered = new WeakMap();
    count = 0;
  };

  const may = (principal: Principal, action: Action, repository: RepositoryName): Decision => {
    const now = mode();
    if (now !== lastMode) {
      lastMode = now;
      forget();
    }
    let actions = remembered.get(principal);
    let decisions = actions?.get(action);
    const known = decisions?.get(repository);
    if (known !== undefined) return known;
    const decision = decide(principal, action, standings.standing(principal, repository));
    if (count++ >= MAX_REMEMBERED) {
      forget();
      actions = decisions = undefined;
    }
    if (actions === undefined) remembered.set(principal, (actions = new Map()));
    if (decisions === undefined) actions.set(action, (decisions = new Map()));
    decisions.set(repository, decision);
    return decision;
  };

  return {
    may: (call, action, repository) => may(call.principal, action, repository),
    visible: async (call, repositories) =>
      new Set(repositories.filter((name) => may(call.principal, 'repository.pull', name).allowed)),
    visibility: async ({ principal }) => {
      const account = standings.pullable(principal);
      // A token for the catalog lists what its account may pull; any other lists what it itself reaches.
      const bounds = principal.bounds;
      if (bounds === undefined || bounds.some((bound) => bound.actions.includes('registry.catalog'))) return account;
      const pulls = bounds.filter((bound) => bound.actions.includes('repository.pull') && bound.repository !== '');
      if (account === 'all') return visibilityOf(pulls.map((bound) => bound.repository));
      // Where both narrow, only plain names are kept: the exact answer for every token that the endpoint issues.
      const names = pulls.map((bound) => bound.repository).filter((name) => !name.includes('*'));
      return visibilityOf(names.filter((name) => may(principal, 'repository.pull', name as RepositoryName).allowed));
    },
    setRules: (next) => {
      standings = standingsFrom(next, mode);
      forget();
    },
  };
}

/** Whether a name lies in a visibility, `ids` aside. For what filters in memory. */
export function inVisibility(
  visibility: Exclude<Awaited<ReturnType<Access['visibility']>>, 'all'>,
): (name: string) => boolean {
  const matches = visibility.patterns.map(compileGlob);
  return (name) =>
    visibility.ranges.some((range) => name >= range.from && name < range.to) || matches.some((match) => match(name));
}
