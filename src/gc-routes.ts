/** The collector over the REST API: what waits, and why something is kept. For administrators of the whole registry. */
import * as z from 'zod';
import { declare, serve } from './api/route.ts';
import { digest } from './api/words.ts';
import type { AlwaysModule } from './features/feature.ts';
import { gcExplain } from './maintenance/gc-explain.ts';
import { gcPreview, gcStatus } from './maintenance/gc-status.ts';

const RIGHT = { on: 'registry', action: 'registry.admin' } as const;
/** Blobs that are listed of those that would go. */
const LISTED = 1_000;

const status = declare({
  operation: 'getGcStatus',
  method: 'GET',
  path: '/gc',
  tag: 'collector',
  summary: 'What waits for the garbage collector, and what would go now.',
  right: RIGHT,
  answer: z.object({
    status: z.object({
      tick: z.int(),
      blobs: z.int(),
      queued: z.int().describe('Reviews that wait.'),
      due: z.int().describe('Those of them that are due.'),
      tagTombstones: z.int(),
      manifestTombstones: z.int(),
      deadKeys: z.int().describe('Keys that were given up and may still have bytes.'),
      orphans: z.int().describe('Keys in storage that nothing knows, seen once.'),
      holds: z.int(),
      sweptTicksAgo: z.int().optional(),
    }),
    preview: z.object({
      blobs: z.array(z.object({ digest, bytes: z.int() })).describe(`At most ${LISTED} of the blobs that would go.`),
      bytes: z.int(),
      more: z.boolean(),
    }),
  }),
});

const named = z.object({
  repository: z.string(),
  manifest: digest,
  tags: z.array(z.string()),
  deletedTick: z.int().optional(),
});

const explain = declare({
  operation: 'explainDigest',
  method: 'GET',
  path: '/gc/explain/{digest}',
  tag: 'collector',
  summary: 'Why a blob or manifest is kept: at most 20 of each kind of reason.',
  right: RIGHT,
  params: z.strictObject({ digest }),
  answer: z.object({
    digest,
    tick: z.int(),
    blob: z
      .object({
        state: z.enum(['absent', 'incoming', 'live', 'damaged']),
        size: z.int().nullable(),
        key: z.string().nullable(),
        stored: z.boolean(),
        inline: z.boolean(),
        leaseTick: z.int().optional(),
      })
      .optional()
      .describe('Absent: it is not here.'),
    links: z.array(z.object({ repository: z.string(), dueTick: z.int().optional(), active: z.boolean() })),
    references: z.array(named),
    manifests: z.array(named),
    holds: z.array(z.object({ repository: z.string().optional(), reason: z.string(), actor: z.string() })),
    uploads: z.int(),
    rowDueTick: z.int().optional(),
    deadKeys: z.array(z.object({ key: z.string(), tick: z.int(), bytesGone: z.boolean() })),
    because: z.array(z.string()).describe('A sentence for each reason. None: it goes at the next review.'),
  }),
});

/** The module for `always.ts`. */
export const collectorRoutes: AlwaysModule = {
  name: 'collector-routes',
  declares: [status, explain],
  routes: ({ database, clock }) => [
    serve(status, async () => ({
      status: await gcStatus(database),
      preview: (await gcPreview(database, LISTED, clock.now())) as never,
    })),
    serve(explain, async ({ params }) => (await gcExplain(database, params.digest, clock.now())) as never),
  ],
};
