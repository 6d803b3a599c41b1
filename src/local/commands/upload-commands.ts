/**
 * The commands of uploads. A row appears at the first stored byte; whoever writes claims it first, and only who holds
 * the claim's fence may say that bytes were added, so of two writers exactly one wins (threats.md case 11).
 */
import type { Command } from '../../database/database.ts';
import { RegistryError } from '../../oci/error.ts';
import type { RepositoryName } from '../../oci/names.ts';
import type { Guards } from '../../registry/guard.ts';
import { checkGuards } from './guards.ts';
import { ensureRepository, markActive } from './rows.ts';

/** Which upload: its row id, and the repository and principal that its signed id names. */
export interface UploadKey {
  readonly id: Uint8Array;
  readonly repository: RepositoryName;
  readonly principal: string;
}

/** The row as a claim found it. `fence` is the claimant's own. */
export interface Claimed {
  readonly fence: number;
  readonly size: number;
  readonly state: string;
  /** Another writer held it: its file must not be written any more. */
  readonly takenOver: boolean;
}

/** What `state` holds once an upload is closed without a blob: it answers 404 from then on. */
export const CLOSED = 'closed';

/** The error for who finds that another request wrote meanwhile. */
export function uploadChanged(size: number): RegistryError {
  return new RegistryError(
    'RANGE_INVALID',
    'Another request wrote to this upload meanwhile: ask for its status and go on at its offset.',
    {
      detail: { size },
    },
  );
}

/** Claims the upload for one writer; makes the row where `fence` is 0 (no byte stored yet). RANGE_INVALID where it moved on since it was read. */
export const uploadClaim: Command<UploadKey & { fence: number; state: string; guards: Guards }, Claimed> = {
  name: 'upload-claim',
  grows: true,
  async run(context, { id, repository: name, principal, fence, state, guards }) {
    const { sql } = context;
    const repository = await ensureRepository(context, name);
    await checkGuards(context, repository.id, guards);
    if (fence === 0) {
      const made = await sql.run(
        `insert into upload (id, repository_id, principal, size, state, fence, claimed, due_tick, created_at)
         values (?, ?, ?, 0, ?, 1, 1, ?, ?) on conflict (id) do nothing`,
        id,
        repository.id,
        principal,
        state,
        context.tick + context.ticks.uploadLifetime,
        context.now,
      );
      await markActive(context, repository);
      if (made === 1) return { result: { fence: 1, size: 0, state, takenOver: false }, touched: [] };
    }
    const row = await sql.get<{ size: number; state: string; fence: number; claimed: number }>(
      'select size, state, fence, claimed from upload where id = ? {for update}',
      id,
    );
    if (row === undefined || row.state === CLOSED) throw uploadUnknown();
    if (row.fence !== fence) throw uploadChanged(row.size);
    await sql.run(
      'update upload set fence = fence + 1, claimed = 1, due_tick = ? where id = ?',
      context.tick + context.ticks.uploadLifetime,
      id,
    );
    await markActive(context, repository);
    return {
      result: { fence: fence + 1, size: row.size, state: row.state, takenOver: row.claimed === 1 },
      touched: [],
    };
  },
};

/** Says that the upload has `size` bytes now, and gives the claim back unless it is `closing` (who comes then takes it over). RANGE_INVALID where the claim was taken over. `fence` 0: nothing was claimed, the bytes are in `state`. */
export const uploadAdvance: Command<
  UploadKey & { fence: number; size: number; state: string; guards: Guards; closing?: boolean },
  number
> = {
  name: 'upload-advance',
  async run(context, { id, repository: name, principal, fence, size, state, guards, closing = false }) {
    const { sql } = context;
    const due = context.tick + context.ticks.uploadLifetime;
    if (fence === 0) {
      const repository = await ensureRepository(context, name);
      await checkGuards(context, repository.id, guards);
      const made = await sql.run(
        `insert into upload (id, repository_id, principal, size, state, fence, claimed, due_tick, created_at)
         values (?, ?, ?, ?, ?, 1, 0, ?, ?) on conflict (id) do nothing`,
        id,
        repository.id,
        principal,
        size,
        state,
        due,
        context.now,
      );
      if (made === 0) throw uploadChanged(0);
      await markActive(context, repository);
      return { result: 1, touched: [] };
    }
    const moved = await sql.run(
      'update upload set size = ?, state = ?, fence = fence + 1, claimed = ?, due_tick = ? where id = ? and fence = ?',
      size,
      state,
      closing ? 1 : 0,
      due,
      id,
      fence,
    );
    if (moved === 0) throw uploadChanged(size);
    return { result: fence + 1, touched: [] };
  },
};

/** Ends the upload: its row stays as a mark until it expires, so that the id answers 404. BLOB_UPLOAD_UNKNOWN where it was closed before. */
export const uploadClose: Command<UploadKey, { state: string | undefined }> = {
  name: 'upload-close',
  async run(context, { id, repository: name, principal }) {
    const { sql } = context;
    const due = context.tick + context.ticks.uploadLifetime;
    const row = await sql.get<{ state: string }>('select state from upload where id = ? {for update}', id);
    if (row !== undefined) {
      if (row.state === CLOSED) throw uploadUnknown();
      await sql.run(
        'update upload set state = ?, size = 0, fence = fence + 1, claimed = 0, due_tick = ? where id = ?',
        CLOSED,
        due,
        id,
      );
      return { result: { state: row.state }, touched: [] };
    }
    const repository = await ensureRepository(context, name);
    await sql.run(
      `insert into upload (id, repository_id, principal, size, state, fence, claimed, due_tick, created_at)
       values (?, ?, ?, 0, ?, 1, 0, ?, ?) on conflict (id) do nothing`,
      id,
      repository.id,
      principal,
      CLOSED,
      due,
      context.now,
    );
    return { result: { state: undefined }, touched: [] };
  },
};

/** Takes at most 100 uploads that are past their lifetime off the table; the caller removes their bytes. */
export const uploadExpire: Command<object, readonly { id: Uint8Array; state: string }[]> = {
  name: 'upload-expire',
  async run({ sql, tick }) {
    const due = await sql.all<{ id: Uint8Array; state: string }>(
      'select id, state from upload where due_tick < ? order by due_tick limit 100 {for update skip locked}',
      tick,
    );
    for (const { id } of due) await sql.run('delete from upload where id = ?', id);
    return { result: due, touched: [] };
  },
};

/** The error for an id that is unknown, closed, expired, of another repository or of another principal: all alike. */
export function uploadUnknown(): RegistryError {
  return new RegistryError(
    'BLOB_UPLOAD_UNKNOWN',
    'There is no such upload here: it was finished, cancelled or has expired. Start a new one.',
  );
}
