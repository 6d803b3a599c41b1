/**
 * Starts one of several processes: the primary, or a member of it. On SQLite all share one data folder, and changes go
 * through the primary's one writer; on PostgreSQL each has connections of its own, so that `server.processes` members
 * and the primary have `database.connections` each at most.
 */

import { type Base, openCore } from './compose.ts';
import type { Database } from './database/database.ts';
import { joinSqlite, openSqlite } from './database/open.ts';
import { watchDatabase } from './older-database.ts';
import { openDatabase, openServingStorage, sqliteOptions } from './opening.ts';
import { adminCommands, keepHouse, notReadyMilliseconds, type Running, reloadInto, running, urlOf } from './running.ts';
import { checkSameStorage } from './same-storage.ts';
import { servedBackups } from './served-backups.ts';
import { serveAdmin } from './server/admin.ts';
import { isMember, joinPrimary, startMembers } from './server/cluster.ts';
import { stopper } from './server/stop.ts';
import { openServing } from './serving.ts';

/** Which of the two this is, is known by who started it. */
export function startSeveral(base: Base): Promise<Running> {
  return isMember() ? startMember(base) : startPrimary(base);
}

/** The process that owns the folder of several: the writer, the jobs, the admin socket. */
async function startPrimary(base: Base): Promise<Running> {
  const { config, log, clock, metrics } = base;
  const owned = config.database.url === undefined ? await openSqlite(sqliteOptions(base)) : undefined;
  const opened: Database = owned ?? (await openDatabase(base));
  const storage = await openServingStorage(base);
  await checkSameStorage(opened, storage);
  const watched = await watchDatabase(base, { database: opened, storage, marks: true });
  const { database, marker } = watched;
  const core = await openCore(base, { database, storage, keepsHouse: true, marker });
  const backups = servedBackups({ ...base, database });
  const admin = database.shared
    ? () => undefined
    : await serveAdmin(base.data, { ...adminCommands(core.access), ...core.gcCommands, ...backups.commands }, log);
  const maintenance = keepHouse(base, core.access);
  core.startJobs();
  const members = startMembers({
    count: config.server.processes,
    serve: (channel) => owned?.serve(channel) ?? (() => undefined),
    own: () => metrics.snapshot(),
    clock,
    log,
  });
  const port = await members.ready;
  const waits = notReadyMilliseconds(base) + config.server.drainSeconds * 1000;
  const stopping = stopper({
    notReadyMilliseconds: 0,
    drainMilliseconds: waits + 5_000,
    notReady: () => undefined,
    drain: (milliseconds) => members.stop(milliseconds),
    close: [admin, backups.close, maintenance, watched.close, core.close],
    clock,
    log,
  });
  return {
    url: urlOf(config, port),
    anonymousMode: core.access.anonymousMode,
    reload: async () => {
      await reloadInto(base, core.access);
      members.reload();
    },
    stop: stopping.stop,
  };
}

/** A serving process of several. */
async function startMember(base: Base): Promise<Running> {
  const asked: { running?: Running } = {};
  const membership = joinPrimary({
    stop: () => {
      if (asked.running === undefined) process.exit(0);
      void asked.running.stop().then((well) => process.exit(well ? 0 : 1));
    },
    reload: () => void asked.running?.reload(),
    own: () => base.metrics.snapshot(),
  });
  const opened =
    base.config.database.url === undefined
      ? await joinSqlite(sqliteOptions(base), membership.channel)
      : await openDatabase(base);
  const storage = await openServingStorage(base);
  const watched = await watchDatabase(base, { database: opened, storage, marks: false });
  const { database } = watched;
  const core = await openCore(base, { database, storage, keepsHouse: false });
  const serving = await openServing(base, core, membership);
  membership.ready(serving.port);
  asked.running = running(base, core, serving, [watched.close]);
  return asked.running;
}
