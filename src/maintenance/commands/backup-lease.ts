/**
 * The lease under which a backup copies: while it is held the collector deletes no bytes that the backup's snapshot
 * may need (`gc-take`); what is condemned meanwhile only waits. It ends by itself when nobody renews it.
 */
import type { Command } from '../../database/database.ts';

/** Takes the lease, before the snapshot, for so many ticks. */
export const backupLeaseTake: Command<{ name: string; owner: string; ticks: number }, null> = {
  name: 'backup-lease-take',
  async run({ sql, tick }, { name, owner, ticks }) {
    await sql.run(
      `insert into lease (name, kind, owner, fence, since_tick, due_tick) values (?, 'backup', ?, 0, ?, ?)`,
      name,
      owner,
      tick,
      tick + ticks,
    );
    return { result: null, touched: [] };
  },
};

/** Renews it. False: it has run out, and bytes may be gone. */
export const backupLeaseRenew: Command<{ name: string; ticks: number }, boolean> = {
  name: 'backup-lease-renew',
  async run({ sql, tick }, { name, ticks }) {
    const renewed = await sql.run(
      `update lease set due_tick = ? where name = ? and kind = 'backup' and due_tick >= ?`,
      tick + ticks,
      name,
      tick,
    );
    return { result: renewed > 0, touched: [] };
  },
};

/** Gives it up, and with it every lease of a backup that ran out long ago. */
export const backupLeaseEnd: Command<{ name: string }, null> = {
  name: 'backup-lease-end',
  async run({ sql, tick }, { name }) {
    await sql.run(`delete from lease where kind = 'backup' and (name = ? or due_tick < ?)`, name, tick - 1000);
    return { result: null, touched: [] };
  },
};
