/** Where a database stands in its own history, in numbers that only grow: by them it is seen when one was put back. */

/** The row of `lease` that counts the marks which storage has of this database: `fence` is the count, `owner` the last one's nonce. */
export const STORAGE_MARK = 'storage.mark';

/** Where it stands. The epoch goes before the rest. */
export interface Standing {
  readonly uid: string;
  readonly epoch: number;
  readonly tick: number;
  /** Marks that were made; 0: none. */
  readonly number: number;
  readonly nonce: string;
}

/** Reads it. One statement, so of one moment. */
export const STANDING = `select i.uid, i.epoch, c.tick,
   coalesce((select l.fence from lease l where l.name = '${STORAGE_MARK}'), 0) as number,
   coalesce((select l.owner from lease l where l.name = '${STORAGE_MARK}'), '') as nonce
 from installation i, gc_clock c where i.id = 1 and c.id = 1`;
