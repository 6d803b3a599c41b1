import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseRepositoryName } from '../oci/repository-name.ts';
import type { Action, Principal } from '../registry/call.ts';
import { callBy } from './access.testing.ts';
import type { Standing } from './access.ts';
import type { AccessRule, AnonymousMode } from './config.ts';
import { decide } from './decide.ts';
import { compileGlob, visibilityOf } from './glob.ts';
import { ANONYMOUS } from './principals.ts';
import { inVisibility, REGISTRY_ITSELF, rightsFrom } from './rights.ts';

const ACTIONS: readonly Action[] = [
  'repository.pull',
  'repository.push',
  'repository.delete',
  'repository.purge',
  'registry.catalog',
];
const action = fc.constantFrom(...ACTIONS);
const role = fc.constantFrom('a', 'b', 'c');
const repository = fc.constantFrom('team/app', 'team/lib/x', 'other', 'x/y');
const pattern = fc.constantFrom('**', 'team/**', 'team/*', 'other', '*', 'x/?', '**/app', 'no');
const bound = fc.record({ repository: pattern, actions: fc.array(action, { maxLength: 3 }) });
const principal: fc.Arbitrary<Principal> = fc
  .record(
    {
      kind: fc.constantFrom('anonymous' as const, 'user' as const, 'robot' as const, 'workload' as const),
      bounds: fc.array(bound, { maxLength: 3 }),
    },
    { requiredKeys: ['kind'] },
  )
  .map((made) => ({ id: `${made.kind}:1`, name: 'alice', ...made }));
const standing: fc.Arbitrary<Standing> = fc.record({
  repository,
  roles: fc.array(role, { maxLength: 3 }),
  visibility: fc.constantFrom('public' as const, 'internal' as const, 'private' as const, 'absent' as const),
  rolesAllow: fc.array(fc.tuple(action, fc.array(role, { maxLength: 2 }))).map((pairs) => new Map(pairs)),
});

test('nothing is allowed that neither a role nor the visibility of a pull grants', () => {
  fc.assert(
    fc.property(principal, action, standing, (who, what, at) => {
      if (!decide(who, what, at).allowed) return;
      const byRole = at.rolesAllow.get(what)?.some((granting) => at.roles.includes(granting)) ?? false;
      const byVisibility =
        what === 'repository.pull' &&
        (at.visibility === 'public' || (at.visibility === 'internal' && who.kind !== 'anonymous'));
      assert.ok(byRole || byVisibility);
    }),
    { numRuns: 2000 },
  );
});

test('bounds only narrow, and a refusal by bounds alone says so', () => {
  fc.assert(
    fc.property(principal, action, standing, (who, what, at) => {
      const { bounds, ...whole } = who;
      const narrow = decide(who, what, at);
      const wide = decide(whole, what, at);
      if (narrow.allowed) assert.ok(wide.allowed);
      if (bounds === undefined) assert.deepEqual(narrow, wide);
      if (!narrow.allowed) assert.equal(narrow.reason === 'insufficient_scope', wide.allowed);
      if (narrow.allowed && bounds !== undefined) {
        assert.ok(bounds.some((one) => one.actions.includes(what) && compileGlob(one.repository)(at.repository)));
      }
    }),
    { numRuns: 2000 },
  );
});

test('a refusal is visible only to who may pull, and a system principal is never refused', () => {
  fc.assert(
    fc.property(principal, action, standing, (who, what, at) => {
      const decision = decide(who, what, at);
      if (!decision.allowed && decision.visible && decision.reason === 'no_right') {
        assert.ok(decide(who, 'repository.pull', at).allowed);
      }
      assert.ok(decide({ kind: 'system', id: 'system:gc', name: 'gc' }, what, at).allowed);
    }),
  );
});

const rule: fc.Arbitrary<AccessRule> = fc.record({
  users: fc.array(fc.constantFrom('alice', 'bob', '*'), { minLength: 1, maxLength: 2 }),
  repositories: fc.array(pattern, { minLength: 1, maxLength: 2 }),
  actions: fc.array(fc.constantFrom('pull' as const, 'push' as const, 'delete' as const, 'purge' as const), {
    minLength: 1,
    maxLength: 3,
  }),
});
const rules = fc.option(fc.array(rule, { maxLength: 4 }), { nil: undefined });
const WORD: Readonly<Record<string, AnonymousMode[]>> = {
  'repository.pull': ['pull', 'push'],
  'registry.catalog': ['pull', 'push'],
  'repository.push': ['push'],
  'repository.delete': ['push'],
  'repository.purge': [],
};

test('the anonymous get exactly what the mode says, whatever the rules', () => {
  fc.assert(
    fc.property(
      rules,
      fc.constantFrom<AnonymousMode>('none', 'pull', 'push'),
      action,
      repository,
      (set, mode, what, at) => {
        const access = rightsFrom(set, () => mode);
        const decision = access.may(callBy(ANONYMOUS), what, parseRepositoryName(at));
        assert.equal(decision.allowed, WORD[what]!.includes(mode));
      },
    ),
  );
});

test('a person gets what the mode gives to everyone and the rules grant, and nothing else; listings agree', async () => {
  await fc.assert(
    fc.asyncProperty(
      rules,
      fc.constantFrom<AnonymousMode>('none', 'pull', 'push'),
      action,
      repository,
      async (set, mode, what, at) => {
        const who: Principal = { kind: 'user', id: 'user:1', name: 'alice' };
        const access = rightsFrom(set, () => mode);
        const granted =
          set === undefined
            ? ['repository.pull', 'repository.push', 'repository.delete'].includes(what)
            : set.some(
                (one) =>
                  (one.users.includes('alice') || one.users.includes('*')) &&
                  one.repositories.some((glob) => compileGlob(glob)(at)) &&
                  one.actions.some((word) => `repository.${word}` === what),
              );
        const expected = granted || WORD[what]!.includes(mode) || what === 'registry.catalog';
        for (let twice = 0; twice < 2; twice++) {
          assert.equal(access.may(callBy(who), what, parseRepositoryName(at)).allowed, expected);
        }
        const visibility = await access.visibility(callBy(who));
        const pulls = access.may(callBy(who), 'repository.pull', parseRepositoryName(at)).allowed;
        assert.equal(visibility === 'all' || inVisibility(visibility)(at), pulls);
      },
    ),
    { numRuns: 500 },
  );
});

test('robots and workloads get nothing from rules for people of the same name', () => {
  const access = rightsFrom([{ users: ['alice', '*'], repositories: ['**'], actions: ['pull', 'push'] }], () => 'none');
  for (const kind of ['robot', 'workload'] as const) {
    const call = callBy({ kind, id: `${kind}:1`, name: 'alice' });
    assert.equal(access.may(call, 'repository.pull', parseRepositoryName('a')).allowed, false);
  }
});

test('what was remembered is forgotten when the mode or the rules change', () => {
  let mode: AnonymousMode = 'push';
  const access = rightsFrom(undefined, () => mode);
  const name = parseRepositoryName('a/b');
  const alice = callBy({ kind: 'user', id: 'user:1', name: 'alice' });
  assert.ok(access.may(callBy(ANONYMOUS), 'repository.push', name).allowed);
  mode = 'none';
  assert.equal(access.may(callBy(ANONYMOUS), 'repository.push', name).allowed, false);
  assert.ok(access.may(alice, 'repository.push', name).allowed);
  access.setRules([]);
  assert.equal(access.may(alice, 'repository.push', name).allowed, false);
  assert.ok(access.may(alice, 'registry.catalog', REGISTRY_ITSELF).allowed);
});

test('a token lists what it reaches; one for the catalog lists what its account may pull', async () => {
  const access = rightsFrom([{ users: ['*'], repositories: ['team/*', 'x'], actions: ['pull'] }], () => 'none');
  const shows = async (bounds: NonNullable<Principal['bounds']>, name: string): Promise<boolean> => {
    const seen = await access.visibility(callBy({ kind: 'user', id: 'user:1', name: 'alice', bounds }));
    return seen === 'all' || inVisibility(seen)(name);
  };
  assert.ok(await shows([{ repository: '', actions: ['registry.catalog'] }], 'team/app'));
  assert.equal(await shows([{ repository: '', actions: ['registry.catalog'] }], 'team/a/b'), false);
  assert.ok(await shows([{ repository: 'team/app', actions: ['repository.pull'] }], 'team/app'));
  assert.equal(await shows([{ repository: 'team/app', actions: ['repository.pull'] }], 'team/lib'), false);
  assert.equal(await shows([{ repository: 'secret', actions: ['repository.pull'] }], 'secret'), false);
  assert.equal(await shows([], 'x'), false);
});

test('globs: within a part, across parts, and hostile ones end', () => {
  const cases: readonly [string, string, boolean][] = [
    ['team/*', 'team/app', true],
    ['team/*', 'team/a/b', false],
    ['team/**', 'team/a/b', true],
    ['team/**', 'team', false],
    ['**', 'a/b/c', true],
    ['**/app', 'x/y/app', true],
    ['**/app', 'app', false],
    ['*-ci', 'my-ci', true],
    ['a.b', 'axb', false],
    ['', 'a', false],
  ];
  for (const [glob, name, expected] of cases) assert.equal(compileGlob(glob)(name), expected, `${glob} ${name}`);
  const name = `${'a'.repeat(254)}b`;
  for (const hostile of [
    '*a'.repeat(32_768),
    '**a'.repeat(21_845),
    `${'*'.repeat(65_535)}c`,
    `${'(a+)+'.repeat(13_000)}$`,
  ]) {
    assert.equal(compileGlob(hostile)(name), false);
  }
  assert.deepEqual(visibilityOf(['a', 'team/**', 'x/*']), {
    ranges: [
      { from: 'a', to: 'a\0' },
      { from: 'team/', to: 'team0' },
    ],
    patterns: ['x/*'],
    ids: [],
  });
  assert.equal(visibilityOf(['x', '**']), 'all');
});
