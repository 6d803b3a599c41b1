/** Starts a server: in this process, or in several. */
import { resolve } from 'node:path';
import { type Base, openCore, type StartOptions } from './compose.ts';
import { systemClock } from './kit/clock.ts';
import { armFailpoints, killAt } from './kit/failpoint.ts';
import { watchDatabase } from './older-database.ts';
import { failpointOf, openDatabase, openServingStorage } from './opening.ts';
import { adminCommands, keepHouse, type Running, running } from './running.ts';
import { checkSameStorage } from './same-storage.ts';
import { servedBackups } from './served-backups.ts';
import { serveAdmin } from './server/admin.ts';
import { openServing } from './serving.ts';
import { openLog } from './telemetry/log.ts';
import { openMetrics, processMetrics } from './telemetry/metrics.ts';

/** Starts what the configuration describes, in this process and, with `server.processes`, in members of it. */
export async function start(options: StartOptions): Promise<Running> {
  const { config } = options;
  const log = openLog({ level: config.log.level });
  armFor(options.failpoint);
  const metrics = openMetrics();
  processMetrics(metrics, options.version);
  const { failpoint } = options;
  const base: Base = { options, config, data: resolve(config.data), clock: systemClock, log, metrics, failpoint };
  if (config.server.processes === 1) return startAlone(base);
  return (await import('./several.ts')).startSeveral(base);
}

/** One process that does everything: what a laptop and most servers run. */
async function startAlone(base: Base): Promise<Running> {
  const [opened, storage] = await Promise.all([openDatabase(base), openServingStorage(base)]);
  await checkSameStorage(opened, storage);
  const watched = await watchDatabase(base, { database: opened, storage, marks: true });
  const { database, marker } = watched;
  const core = await openCore(base, { database, storage, keepsHouse: true, marker });
  const serving = await openServing(base, core, { snapshots: undefined });
  // With a database of its own the command line needs no server, and the folder may be shared by several.
  const backups = servedBackups({ ...base, database });
  const admin = database.shared
    ? () => undefined
    : await serveAdmin(base.data, { ...adminCommands(core.access), ...core.gcCommands, ...backups.commands }, base.log);
  core.startJobs();
  const maintenance = keepHouse(base, core.access);
  return running(base, core, serving, [admin, backups.close, maintenance, watched.close]);
}

function armFor(asked: StartOptions['failpoint']): void {
  const failpoint = failpointOf(asked);
  if (failpoint !== undefined) armFailpoints(killAt(failpoint.name, failpoint.count));
}
