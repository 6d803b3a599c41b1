/** The routes of tag history, undelete and holds, declared. */
import * as z from 'zod';
import { declare } from '../../api/route.ts';
import { digest, instant, OF_MANIFEST, OF_REPOSITORY, OF_TAG, repositoryName, tagName } from '../../api/words.ts';

const PULL = { on: 'repository', action: 'repository.pull' } as const;
const PUSH = { on: 'repository', action: 'repository.push' } as const;
const PURGE = { on: 'repository', action: 'repository.purge' } as const;

/** Longest reason of a hold, characters. */
const MAX_REASON = 1_000;

const actor = z
  .object({ id: z.string(), name: z.string().optional() })
  .meta({ id: 'Actor', description: 'Who did it. The name is the account’s now.' });

const historyEntry = z
  .object({
    sequence: z.int().describe('Orders all changes of the registry; time does not.'),
    tag: tagName,
    kind: z.enum(['moved', 'deleted', 'restored', 'rolled-back']),
    from: digest.optional().describe('Where it was. Absent: it did not exist.'),
    to: digest.optional().describe('Where it is since. Absent: it was deleted.'),
    at: instant,
    actor: actor.optional().describe('Shown to whoever signed in.'),
    origin: z
      .object({
        requestId: z.string(),
        address: z.string().optional(),
        host: z.string().optional(),
        userAgent: z.string().optional(),
      })
      .optional()
      .describe('From where, as it was recorded. Shown to whoever may push here.'),
  })
  .meta({ id: 'TagHistoryEntry' });

/** GET /repositories/{name}/tags/{tag}/history */
export const getTagHistory = declare({
  operation: 'getTagHistory',
  method: 'GET',
  path: '/repositories/{name}/tags/{tag}/history',
  tag: 'history',
  summary: 'Every move of a tag, newest first: who, when and from where.',
  right: PULL,
  params: OF_TAG,
  answer: historyEntry,
  position: z.int().min(1),
});

/** GET /repositories/{name}/history */
export const getRepositoryHistory = declare({
  operation: 'getRepositoryHistory',
  method: 'GET',
  path: '/repositories/{name}/history',
  tag: 'history',
  summary: 'Every move of every tag of a repository, newest first.',
  right: PULL,
  params: OF_REPOSITORY,
  answer: historyEntry,
  position: z.int().min(1),
});

const placed = z.object({ tag: tagName, digest }).meta({ id: 'TagAt', description: 'Where the tag is now.' });

const expect = digest
  .nullable()
  .optional()
  .describe(
    'Where the tag must be now for this to happen; null: it must not exist. The same as If-Match and If-None-Match.',
  );

/** POST /repositories/{name}/tags/{tag}/rollback */
export const rollBackTag = declare({
  operation: 'rollBackTag',
  method: 'POST',
  path: '/repositories/{name}/tags/{tag}/rollback',
  tag: 'history',
  summary: 'Puts a tag back where it was.',
  description:
    'To a manifest that the tag once named, or to where an entry of its history left it. Where that manifest was deleted it is brought back in the same step, as long as its window lasts. Immutable and held tags are not moved.',
  right: PUSH,
  params: OF_TAG,
  body: z.strictObject({
    to: z.union([digest, z.int().min(1)]).describe('A digest, or the sequence of an entry of the history.'),
    expect,
  }),
  conditions: true,
  answer: placed,
  refusals: ['conflict', 'precondition_failed'],
});

const deletedEntry = z
  .object({
    kind: z.enum(['tag', 'manifest']),
    tag: tagName.optional(),
    digest: digest.describe('The manifest, or what the tag named.'),
    mediaType: z.string(),
    deletedAt: instant.optional(),
    actor: actor.optional(),
    ticksLeft: z.int().describe('Time is counted while the server is up. 0: it goes with the next collection.'),
    secondsLeft: z.int().describe('About as many seconds of uptime.'),
    held: z.boolean().describe('A hold keeps it for longer.'),
  })
  .meta({ id: 'Deleted' });

/** GET /repositories/{name}/deleted */
export const listDeleted = declare({
  operation: 'listDeleted',
  method: 'GET',
  path: '/repositories/{name}/deleted',
  tag: 'history',
  summary: 'What was deleted and can still be brought back: tags, then manifests.',
  right: PUSH,
  params: OF_REPOSITORY,
  answer: deletedEntry,
  position: z.union([
    z.tuple([z.literal('tag'), z.int().min(1)]),
    z.tuple([
      z.literal('manifest'),
      z
        .string()
        .max(130)
        .regex(/^[0-9a-f]*$/),
    ]),
  ]),
});

/** POST /repositories/{name}/tags/{tag}/undelete */
export const undeleteTag = declare({
  operation: 'undeleteTag',
  method: 'POST',
  path: '/repositories/{name}/tags/{tag}/undelete',
  tag: 'history',
  summary: 'Brings back a deleted tag, and its manifest with it.',
  description:
    'A tag that was made again meanwhile is moved only where `expect` or If-Match says that you know where it is.',
  right: PUSH,
  params: OF_TAG,
  body: z.strictObject({ expect }),
  bodyOptional: true,
  conditions: true,
  answer: placed,
  refusals: ['conflict', 'precondition_failed'],
});

/** POST /repositories/{name}/manifests/{digest}/undelete */
export const undeleteManifest = declare({
  operation: 'undeleteManifest',
  method: 'POST',
  path: '/repositories/{name}/manifests/{digest}/undelete',
  tag: 'history',
  summary: 'Brings back a deleted manifest, without the tags that it had.',
  right: PUSH,
  params: OF_MANIFEST,
  answer: z.object({ digest }),
  refusals: ['conflict'],
});

/** DELETE /repositories/{name}/deleted/tags/{tag} */
export const purgeTag = declare({
  operation: 'purgeTag',
  method: 'DELETE',
  path: '/repositories/{name}/deleted/tags/{tag}',
  tag: 'history',
  summary: 'Ends the window of a deleted tag now: it cannot be brought back any more.',
  right: PURGE,
  params: OF_TAG,
  status: 204,
  refusals: ['conflict'],
});

/** DELETE /repositories/{name}/deleted/manifests/{digest} */
export const purgeManifest = declare({
  operation: 'purgeManifest',
  method: 'DELETE',
  path: '/repositories/{name}/deleted/manifests/{digest}',
  tag: 'history',
  summary: 'Ends the window of a deleted manifest and of its tags now.',
  right: PURGE,
  params: OF_MANIFEST,
  status: 204,
  refusals: ['conflict'],
});

const hold = z
  .object({
    id: z.uuid(),
    repository: repositoryName,
    tag: tagName.optional(),
    digest: digest.optional(),
    reason: z.string(),
    actor: actor.optional().describe('Shown to whoever signed in.'),
    until: instant.optional(),
    createdAt: instant,
    active: z.boolean().describe('False once `until` has passed.'),
  })
  .meta({ id: 'Hold', description: 'Protects a repository, or one tag or manifest of it, from deletion.' });

/** GET /holds */
export const listAllHolds = declare({
  operation: 'listAllHolds',
  method: 'GET',
  path: '/holds',
  tag: 'holds',
  summary: 'The holds of every repository that you may pull from, oldest first.',
  description: 'A page may hold fewer than `limit`, or none, and still have a next one.',
  right: { on: 'registry', action: 'registry.catalog' },
  answer: hold,
  position: z.int().min(0),
});

/** GET /repositories/{name}/holds */
export const listHolds = declare({
  operation: 'listHolds',
  method: 'GET',
  path: '/repositories/{name}/holds',
  tag: 'holds',
  summary: 'The holds of a repository, oldest first.',
  right: PULL,
  params: OF_REPOSITORY,
  answer: hold,
  position: z.int().min(0),
});

/** POST /repositories/{name}/holds */
export const addHold = declare({
  operation: 'addHold',
  method: 'POST',
  path: '/repositories/{name}/holds',
  tag: 'holds',
  summary: 'Places a hold on the repository, on a tag or on a manifest.',
  description:
    'Held things are not deleted, not purged and not collected, and a repository with a hold in it is not deleted. A tag that is held itself is not moved either, so that it keeps what it names; a hold on a manifest or on the repository lets tags move. What is deleted but still in its window can be held too.',
  right: { on: 'repository', action: 'repository.hold' },
  params: OF_REPOSITORY,
  body: z
    .strictObject({
      tag: tagName.optional(),
      digest: digest.optional(),
      reason: z.string().trim().min(1).max(MAX_REASON).describe('Shown to whoever is refused.'),
      until: z.iso.datetime({ offset: true }).optional().describe('When it ends by itself. Absent: when it is lifted.'),
    })
    .refine((given) => given.tag === undefined || given.digest === undefined, {
      message: 'a hold is on a tag or on a manifest, not on both',
      path: ['digest'],
    }),
  status: 201,
  answer: hold,
  refusals: ['conflict'],
});

const OF_HOLD = z.strictObject({ id: z.uuid() });

/** GET /holds/{id} */
export const getHold = declare({
  operation: 'getHold',
  method: 'GET',
  path: '/holds/{id}',
  tag: 'holds',
  summary: 'One hold.',
  right: { on: 'found', action: 'repository.pull' },
  params: OF_HOLD,
  answer: hold,
});

/** DELETE /holds/{id} */
export const liftHold = declare({
  operation: 'liftHold',
  method: 'DELETE',
  path: '/holds/{id}',
  tag: 'holds',
  summary: 'Lifts a hold.',
  right: { on: 'found', action: 'repository.hold' },
  params: OF_HOLD,
  status: 204,
});
