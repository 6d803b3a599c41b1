/** Repositories and their tags, as they are now: always on. */
import * as z from 'zod';
import { ApiError } from '../../api/problem.ts';
import { declare, serve } from '../../api/route.ts';
import { NOT_SEEN } from '../../api/session.ts';
import { digest, instant, instantOf, OF_REPOSITORY, repositoryName, tagName } from '../../api/words.ts';
import type { AlwaysModule, Core } from '../feature.ts';
import { readRepository, readTags } from './reads.ts';

const TAG = 'repositories';
const PULL = { on: 'repository', action: 'repository.pull' } as const;

const listRepositories = declare({
  operation: 'listRepositories',
  method: 'GET',
  path: '/repositories',
  tag: TAG,
  summary: 'The repositories that you may pull from, in byte order.',
  right: { on: 'registry', action: 'registry.catalog' },
  answer: z.object({ name: repositoryName }),
  position: z.string().min(1).max(255),
});

const getRepository = declare({
  operation: 'getRepository',
  method: 'GET',
  path: '/repositories/{name}',
  tag: TAG,
  summary: 'One repository, with how much it holds.',
  right: PULL,
  params: OF_REPOSITORY,
  answer: z.object({
    id: z.string(),
    name: repositoryName,
    createdAt: instant,
    tags: z.int(),
    manifests: z.int(),
    bytes: z
      .int()
      .describe(
        'What its manifests and blobs add up to, each counted once here. Blobs that several repositories share are stored once.',
      ),
  }),
});

const deleteRepository = declare({
  operation: 'deleteRepository',
  method: 'DELETE',
  path: '/repositories/{name}',
  tag: TAG,
  summary: 'Deletes a repository with everything in it.',
  description:
    'Refused with 409 while anything in it is held, and with 409 or 403 where an immutable tag stands against it. It is done in steps: where the answer does not come, ask again.',
  right: { on: 'repository', action: 'repository.delete' },
  params: OF_REPOSITORY,
  status: 204,
  refusals: ['conflict'],
});

const listTags = declare({
  operation: 'listTags',
  method: 'GET',
  path: '/repositories/{name}/tags',
  tag: TAG,
  summary: 'The tags of a repository, in byte order, with what they name.',
  right: PULL,
  params: OF_REPOSITORY,
  answer: z.object({
    name: tagName,
    digest,
    mediaType: z.string(),
    artifactType: z.string().optional(),
    size: z.int().describe('Bytes of the manifest itself.'),
    updatedAt: instant,
  }),
  position: z.string().min(1).max(128),
});

/** The module for `always.ts`. */
export const repositories: AlwaysModule = {
  name: 'repositories',
  declares: [listRepositories, getRepository, deleteRepository, listTags],
  routes: (core: Core) => [
    serve(listRepositories, async ({ call, page }) => {
      const { items, next } = await core.forRequests().listRepositories(call, page);
      return { items: items.map((name) => ({ name })), next };
    }),
    serve(getRepository, async ({ params }) => {
      const found = await readRepository(core.database, params.name);
      if (found === undefined) throw new ApiError('not_found', NOT_SEEN);
      return { ...found, createdAt: instantOf(found.createdAt) };
    }),
    serve(deleteRepository, async ({ call, params }) => {
      const store = core.forRequests();
      // A client that has gone may ask again; what is done stays done.
      while (!(await store.deleteRepository(call, params.name)).done) call.signal.throwIfAborted();
    }),
    serve(listTags, async ({ params, page }) => {
      const found = await readTags(core.database, params.name, page);
      if (found === undefined) throw new ApiError('not_found', NOT_SEEN);
      return { ...found, items: found.items.map((one) => ({ ...one, updatedAt: instantOf(one.updatedAt) })) };
    }),
  ],
};
