/** What `hold`, `purge` and `admin` in a rule grant, and that nobody has them without one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RepositoryName } from '../oci/names.ts';
import type { Action, Principal } from '../registry/call.ts';
import type { AccessRule } from './config.ts';
import { grantedOf } from './grant.ts';
import { ANONYMOUS } from './principals.ts';
import { REGISTRY_ITSELF, rightsFrom } from './rights.ts';

const user = (name: string): Principal => ({ kind: 'user', id: `user:${name}`, name });
const ACTIONS: readonly Action[] = [
  'repository.pull',
  'repository.push',
  'repository.delete',
  'repository.purge',
  'repository.hold',
];

function allowed(rules: readonly AccessRule[] | undefined, principal: Principal, repository: string): Action[] {
  const rights = rightsFrom(rules, () => 'none');
  return ACTIONS.filter((action) => rights.may({ principal }, action, repository as RepositoryName).allowed);
}

test('nobody may purge, hold or administer without a rule', () => {
  assert.deepEqual(allowed(undefined, user('ann'), 'a'), ACTIONS.slice(0, 3));
  const open = rightsFrom(undefined, () => 'push');
  for (const principal of [ANONYMOUS, user('ann')]) {
    assert.equal(open.may({ principal }, 'repository.hold', 'a' as RepositoryName).allowed, false);
    assert.equal(open.may({ principal }, 'registry.admin', REGISTRY_ITSELF).allowed, false);
  }
});

test('hold grants holds alone; admin grants everything in its repositories', () => {
  const rules: AccessRule[] = [
    { users: ['ann'], repositories: ['team/**'], actions: ['hold'] },
    { users: ['bob'], repositories: ['team/**'], actions: ['admin'] },
  ];
  assert.deepEqual(allowed(rules, user('ann'), 'team/a'), ['repository.hold']);
  assert.deepEqual(allowed(rules, user('bob'), 'team/a'), ACTIONS);
  assert.deepEqual(allowed(rules, user('bob'), 'other'), []);
});

test('the registry itself is for admins of every repository, and for tokens that ask for it', async () => {
  const rules: AccessRule[] = [
    { users: ['root'], repositories: ['**'], actions: ['admin'] },
    { users: ['bob'], repositories: ['team/**'], actions: ['admin'] },
    { users: ['ann'], repositories: ['**'], actions: ['pull', 'push', 'delete', 'purge', 'hold'] },
  ];
  const rights = rightsFrom(rules, () => 'none');
  const may = (principal: Principal): boolean => rights.may({ principal }, 'registry.admin', REGISTRY_ITSELF).allowed;
  assert.deepEqual(
    [may(user('root')), may(user('bob')), may(user('ann')), may(ANONYMOUS)],
    [true, false, false, false],
  );
  const asked = [
    { type: 'registry', name: 'admin', actions: ['*'] },
    { type: 'repository', name: 'a', actions: ['hold', 'purge'] },
  ];
  assert.deepEqual(await grantedOf(rights, user('root'), asked), [
    { type: 'registry', name: 'admin', actions: ['*'] },
    { type: 'repository', name: 'a', actions: ['purge', 'hold'] },
  ]);
  assert.deepEqual(await grantedOf(rights, user('bob'), asked), []);
  const narrowed = { ...user('root'), bounds: [{ repository: 'a', actions: ['repository.pull' as Action] }] };
  assert.deepEqual(rights.may({ principal: narrowed }, 'registry.admin', REGISTRY_ITSELF), {
    allowed: false,
    visible: true,
    reason: 'insufficient_scope',
  });
});
