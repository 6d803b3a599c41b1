/**
 * What a feature is: a folder that gives one object to compose. Three ways to add behaviour, each with one place: who
 * may / where from / who saw it → a wrapper; it must still be true at the commit → a guard; something follows → an
 * event, then a job. Features never import one another.
 */
import type { ZodType } from 'zod';
import type { Access } from '../access/access.ts';
import type { GuardedStore } from '../access/with-access.ts';
import type { AnyDeclaration, ApiRoute } from '../api/route.ts';
import type { Database } from '../database/database.ts';
import type { JobGiver, JobQueue } from '../jobs/job.ts';
import type { Clock } from '../kit/clock.ts';
import type { Log, Metrics } from '../kit/log.ts';
import type { GuardSource } from '../registry/guard.ts';
import type { PullCheck, Store } from '../registry/registry.ts';

/** What a feature may use. */
export interface Core {
  /** The store under every guard: for jobs. Ready once every feature is made, so it is asked in jobs and routes, never in `create`. */
  forJobs(): Store;
  /** The store with every wrapper, access outermost: for routes. Ready when `forJobs` is. */
  forRequests(): GuardedStore;
  readonly database: Database;
  readonly access: Access;
  /** Ready when the features are. */
  jobs(): JobQueue;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Milliseconds of one tick, to say about when something ends. What ends is counted in ticks. */
  readonly tickMilliseconds: number;
}

/** What a feature gives. */
export interface Feature extends JobGiver {
  readonly guards?: GuardSource;
  readonly pullChecks?: readonly PullCheck[];
  /** What it answers under `/api/v1/`. Asked when the web application is first used: what only routes need is imported in it. */
  readonly routes?: () => Promise<readonly ApiRoute[]>;
}

/** What `features.ts` lists. A feature whose section is absent from the configuration is not created and costs nothing. */
export interface FeatureModule<Config> {
  /** Its section in the configuration, and its name in logs. */
  readonly name: string;
  readonly config: ZodType<Config>;
  /** The declarations of its routes, for docs/api/openapi.json. */
  readonly declares?: () => Promise<readonly AnyDeclaration[]>;
  create(core: Core, config: Config): Feature;
}

/**
 * What `always.ts` lists: a feature that has no section because it is always on, and that gives routes only. A server
 * that nobody asks for the API never loads it, so a file that is imported by `always.ts` imports what it serves.
 */
export interface AlwaysModule {
  /** Its name in logs. */
  readonly name: string;
  readonly declares: readonly AnyDeclaration[];
  /** Called once, when the web application is first used. Touches the core in handlers only. */
  routes(core: Core): readonly ApiRoute[];
}
