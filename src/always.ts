/**
 * The parts of the REST API that are always there. A list, no logic; loaded when the web application is first used, so
 * that a server that only serves `/v2/` never carries it.
 */
import type { AlwaysModule } from './features/feature.ts';
import { repositories } from './features/repositories/routes.ts';
import { tagHistory } from './features/tag-history/routes.ts';
import { collectorRoutes } from './gc-routes.ts';
import { scrubRoutes } from './scrub-routes.ts';

/** All of them. */
export const ALWAYS: readonly AlwaysModule[] = [repositories, tagHistory, collectorRoutes, scrubRoutes];
