/** Tag history, roll back, undelete and holds: always on. What changes anything goes through the store, guards and all. */
import { ApiError } from '../../api/problem.ts';
import { type ApiRoute, serve } from '../../api/route.ts';
import { isAnonymous, NOT_SEEN } from '../../api/session.ts';
import { instantOf } from '../../api/words.ts';
import { uuidv7 } from '../../kit/id.ts';
import { digestToBytes } from '../../oci/digest.ts';
import type { Digest, RepositoryName, Tag } from '../../oci/names.ts';
import { type Call, factsOf } from '../../registry/call.ts';
import type { Guard } from '../../registry/guard.ts';
import type { AlwaysModule, Core } from '../feature.ts';
import { holdAdd, holdRemove } from './commands/hold.ts';
import * as declared from './declarations.ts';
import { readDeleted } from './deleted.ts';
import { digestAfter, digestNow, type HistoryEntry, readHistory, wasAt } from './history.ts';
import { type HoldView, readAllHolds, readHold, readHolds } from './holds.ts';

/** The module for `always.ts`. */
export const tagHistory: AlwaysModule = {
  name: 'tag-history',
  declares: Object.values(declared),
  routes: (core) => [...historyRoutes(core), ...undeleteRoutes(core), ...holdRoutes(core)],
};

function historyRoutes(core: Core): ApiRoute[] {
  const { database } = core;
  const shown = async (call: Call, name: RepositoryName): Promise<(entry: HistoryEntry) => object> => {
    const mayPush = (await core.access.may(call, 'repository.push', name)).allowed;
    const seesActors = mayPush || !isAnonymous(call.principal);
    return ({ actor, origin, at, ...entry }) => ({
      ...entry,
      at: instantOf(at),
      ...(seesActors ? { actor } : {}),
      ...(mayPush ? { origin } : {}),
    });
  };
  return [
    serve(declared.getTagHistory, async ({ call, params: { name, tag }, page }) => {
      const { items, next } = await readHistory(database, name, tag, page);
      if (items.length === 0 && page.after === undefined) {
        await requireRepository(core, name);
        throw new ApiError('not_found', 'There never was such a tag in this repository.');
      }
      return { items: items.map(await shown(call, name)) as never, next };
    }),
    serve(declared.getRepositoryHistory, async ({ call, params: { name }, page }) => {
      await requireRepository(core, name);
      const { items, next } = await readHistory(database, name, undefined, page);
      return { items: items.map(await shown(call, name)) as never, next };
    }),
    serve(declared.rollBackTag, async ({ call, params: { name, tag }, body, expect }) => {
      const digest = await rollbackTarget(core, name, tag, body.to);
      const expected = agreed(expect, body.expect);
      const guards: Guard[] = expected === undefined ? [] : [{ kind: 'tag-at', tag, digest: expected }];
      await core.forRequests().restore(call, name, { tag, digest }, guards);
      return { tag, digest };
    }),
  ];
}

/** The manifest that a roll back means. It must be of the tag's own history: anything else would be a push by another door. */
async function rollbackTarget(core: Core, name: RepositoryName, tag: Tag, to: Digest | number): Promise<Digest> {
  const { database } = core;
  await requireRepository(core, name);
  if (typeof to === 'string') {
    if (await wasAt(database, name, tag, to)) return to;
    throw new ApiError('conflict', 'The tag never named that manifest. Look at its history.', { detail: { to } });
  }
  const digest = await digestAfter(database, name, tag, to);
  if (digest === undefined) {
    throw new ApiError('conflict', 'That entry is not of this tag’s history.', { detail: { to } });
  }
  if (digest === null) {
    throw new ApiError('conflict', 'That entry deleted the tag: there is nothing to go back to.', { detail: { to } });
  }
  return digest;
}

/** Where the tag is expected, by header or body; both must say the same. */
function agreed(header: Digest | null | undefined, body: Digest | null | undefined): Digest | null | undefined {
  if (header !== undefined && body !== undefined && header !== body) {
    throw new ApiError('invalid', 'The header and the body expect the tag at different places.');
  }
  return body === undefined ? header : body;
}

async function requireRepository({ database }: Core, name: RepositoryName): Promise<void> {
  const row = await database.query.get<{ id: number }>(
    'select id from repository where gone = 0 and shown = 1 and name = ?',
    name,
  );
  if (row === undefined) throw new ApiError('not_found', NOT_SEEN);
}

function undeleteRoutes(core: Core): ApiRoute[] {
  const { database, clock, tickMilliseconds } = core;
  return [
    serve(declared.listDeleted, async ({ params: { name }, page }) => {
      await requireRepository(core, name);
      const { items, next } = await readDeleted(database, name, page, clock.now());
      return {
        items: items.map(({ at, ...one }) => ({
          ...one,
          ...(at === undefined ? {} : { deletedAt: instantOf(at) }),
          secondsLeft: Math.round((one.ticksLeft * tickMilliseconds) / 1000),
        })),
        next: next as never,
      };
    }),
    serve(declared.undeleteTag, async ({ call, params: { name, tag }, body, expect }) => {
      const digest = agreed(expect, body.expect) ?? null;
      await core.forRequests().restore(call, name, { tag }, [{ kind: 'tag-at', tag, digest }]);
      const now = await digestNow(database, name, tag);
      if (now === undefined) throw new ApiError('conflict', 'The tag was deleted again meanwhile.');
      return { tag, digest: now };
    }),
    serve(declared.undeleteManifest, async ({ call, params: { name, digest } }) => {
      await core.forRequests().restore(call, name, { digest });
      return { digest };
    }),
    serve(declared.purgeTag, async ({ call, params: { name, tag } }) => {
      await core.forRequests().purge(call, name, { tag });
    }),
    serve(declared.purgeManifest, async ({ call, params: { name, digest } }) => {
      await core.forRequests().purge(call, name, { digest });
    }),
  ];
}

function holdRoutes(core: Core): ApiRoute[] {
  const { database, clock, access, log } = core;
  const shown =
    (call: Call) =>
    ({ actor, until, createdAt, ...hold }: HoldView) => ({
      ...hold,
      ...(isAnonymous(call.principal) ? {} : { actor }),
      ...(until === undefined ? {} : { until: instantOf(until) }),
      createdAt: instantOf(createdAt),
    });
  const repositoryOf: NonNullable<ApiRoute['repositoryOf']> = async ({ id = '' }) =>
    (await readHold(database, id, 0))?.repository;
  const found = async (id: string): Promise<HoldView> => {
    const hold = await readHold(database, id, clock.now());
    if (hold === undefined) throw new ApiError('not_found', NOT_SEEN);
    return hold;
  };
  return [
    serve(declared.listAllHolds, async ({ call, page }) => {
      const visible = (names: readonly RepositoryName[]): Promise<ReadonlySet<RepositoryName>> =>
        access.visible(call, names);
      const { items, next } = await readAllHolds(database, visible, page, clock.now());
      return { items: items.map(shown(call)), next };
    }),
    serve(declared.listHolds, async ({ call, params: { name }, page }) => {
      await requireRepository(core, name);
      const { items, next } = await readHolds(database, name, page, clock.now());
      return { items: items.map(shown(call)), next };
    }),
    serve(declared.addHold, async ({ call, params: { name }, body }) => {
      const until = body.until === undefined ? null : Date.parse(body.until);
      if (until !== null && !(until > clock.now())) {
        throw new ApiError('invalid', 'The hold would have ended already.', {
          flaws: [{ at: 'body.until', message: 'must be in the future' }],
        });
      }
      const uid = uuidv7(clock.now());
      const { actor } = factsOf(call);
      await database.run(holdAdd, {
        uid,
        repository: name,
        tag: body.tag ?? null,
        digest: body.digest === undefined ? null : digestToBytes(body.digest),
        reason: body.reason,
        until,
        actor,
      });
      log.info('a hold was placed', { hold: uid, repository: name, actor });
      return shown(call)(await found(uid));
    }),
    serve(declared.getHold, async ({ call, params: { id } }) => shown(call)(await found(id)), repositoryOf),
    serve(
      declared.liftHold,
      async ({ call, params: { id } }) => {
        if (!(await database.run(holdRemove, { uid: id }))) throw new ApiError('not_found', NOT_SEEN);
        log.info('a hold was lifted', { hold: id, actor: factsOf(call).actor });
      },
      repositoryOf,
    ),
  ];
}
