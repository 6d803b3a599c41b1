/** Scrub and damage over the REST API. For administrators of the whole registry. */
import * as z from 'zod';
import { declare, serve } from './api/route.ts';
import { digest, instant, instantOf } from './api/words.ts';
import type { AlwaysModule } from './features/feature.ts';
import { type DamageRecord, listDamaged, scrubStatus } from './maintenance/scrub-status.ts';

const RIGHT = { on: 'registry', action: 'registry.admin' } as const;

const status = declare({
  operation: 'getScrubStatus',
  method: 'GET',
  path: '/scrub',
  tag: 'scrub',
  summary: 'How far the scrub is, and how much is damaged.',
  right: RIGHT,
  answer: z.object({
    round: z.int().describe('Counted from 1; 0: none has begun.'),
    running: z.boolean(),
    begunAt: instant.optional(),
    endedAt: instant.optional(),
    blobs: z.int().describe('What this round has looked at so far.'),
    bytes: z.int(),
    totalBlobs: z.int().describe('What there was when it began.'),
    totalBytes: z.int(),
    damaged: z.int().describe('Found by this round.'),
    unreadable: z.int().describe('Could not be read though storage answers.'),
    halted: z.string().optional().describe('Why it looks at nothing more.'),
    open: z.int().describe('Blobs that are damaged now.'),
    healed: z.int().describe('Blobs that were healed, of the records that are kept.'),
  }),
});

const damaged = declare({
  operation: 'listDamagedBlobs',
  method: 'GET',
  path: '/scrub/damaged',
  tag: 'scrub',
  summary: 'Blobs that are or were damaged, the newest finding first.',
  right: RIGHT,
  query: z.strictObject({
    state: z.enum(['open', 'all']).optional().describe('`open`, which is the default: only what is damaged now.'),
  }),
  position: z.int().min(1),
  answer: z.object({
    digest,
    key: z.string().describe('The key in storage that had the damaged bytes.'),
    size: z.int(),
    foundBy: z.string().describe('`scrub`, `pull`, `push`, or `reindex`.'),
    why: z.string(),
    foundAt: instant,
    state: z.enum(['open', 'healed', 'gone']).describe('`gone`: the collector removed the blob.'),
    closedAt: instant.optional(),
    healedFrom: z.string().optional().describe('The source, `database`, `storage`, or `push`.'),
    attempts: z.int().describe('How often sources were asked.'),
    outcome: z.string().optional().describe('What came of the last time.'),
    nextAt: instant.optional().describe('When sources are asked next.'),
  }),
});

function damageOf({ id: _, foundAt, closedAt, nextAt, ...rest }: DamageRecord) {
  return {
    ...rest,
    foundAt: instantOf(foundAt),
    ...(closedAt === undefined ? {} : { closedAt: instantOf(closedAt) }),
    ...(nextAt === undefined ? {} : { nextAt: instantOf(nextAt) }),
  };
}

/** The module for `always.ts`. */
export const scrubRoutes: AlwaysModule = {
  name: 'scrub-routes',
  declares: [status, damaged],
  routes: ({ database }) => [
    serve(status, async () => {
      const { begunAt, endedAt, ...rest } = await scrubStatus(database);
      return {
        ...rest,
        ...(begunAt === undefined ? {} : { begunAt: instantOf(begunAt) }),
        ...(endedAt === undefined ? {} : { endedAt: instantOf(endedAt) }),
      };
    }),
    serve(damaged, async ({ query, page }) => {
      const { limit, after } = page;
      const open = query.state !== 'all';
      const { items, next } = await listDamaged(database, { limit, open, ...(after === undefined ? {} : { after }) });
      return { items: items.map(damageOf), next };
    }),
  ],
};
