/**
 * The commands that make, link and unlink blobs (schema.md §2). The promise they keep: a digest that was acknowledged
 * in a repository stays good for half a grace at least, and a row that is live has its bytes inline or stored.
 */
import type { Command, CommandContext } from '../../database/database.ts';
import { emit } from '../../events/emit.ts';
import type { Facts } from '../../kit/facts.ts';
import { digestFromBytes } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import { OCTET_STREAM } from '../../oci/media-types.ts';
import type { RepositoryName } from '../../oci/names.ts';
import type { Guards } from '../../registry/guard.ts';
import { type FoundBy, inlineBytes, recordDamage, recordHealed, repositoriesOf } from './damage.ts';
import { checkGuards } from './guards.ts';
import {
  addUsage,
  ensureRepository,
  findRepository,
  freshKeyNumber,
  keyNumber,
  killKey,
  linkBlob,
  lockBlobWithKey,
  markActive,
  queueReview,
  refuseHeld,
  together,
} from './rows.ts';
import { CLOSED, uploadChanged, uploadUnknown } from './upload-commands.ts';

/** What a push of a blob tells its command. `upload`: the row that ends with it, as its writer left it. */
export interface BlobPush {
  readonly repository: RepositoryName;
  readonly digest: Uint8Array;
  readonly size: number;
  readonly upload: UploadEnd | null;
  readonly guards: Guards;
  readonly facts: Facts;
}

/** An upload that a push ends: RANGE_INVALID where another request wrote to it since. */
export interface UploadEnd {
  readonly id: Uint8Array;
  readonly fence: number;
}

/** Where a reservation stands: write the bytes under key n, or see that the live one's bytes are there. */
export interface Reserved {
  readonly n: number;
  readonly live: boolean;
  readonly stored: boolean;
}

/** Reserves a key for bytes that are about to be written, or says that the blob is live. A second pusher adopts the key and renews the lease. */
export const blobReserve: Command<{ digest: Uint8Array; size: number }, Reserved> = {
  name: 'blob-reserve',
  grows: true,
  async run(context, { digest, size }) {
    const { row, fresh } = await lockBlobWithKey(context, digest);
    if (row.state === 'live') return { result: { n: row.n ?? 0, live: true, stored: row.stored === 1 }, touched: [] };
    const n = await keyNumber(context, digest, row, fresh);
    const lease = context.tick + context.ticks.grace;
    await together(
      context.sql.run(
        "update blob set state = 'incoming', size = ?, n = ?, stored = 0, lease_tick = ? where digest = ?",
        size,
        n,
        lease,
        digest,
      ),
      queueReview(context, 0, digest, lease + 1),
    );
    return { result: { n, live: false, stored: false }, touched: [] };
  },
};

/** Makes the reserved key live (`moved`: its bytes are there now) or finds it live, and links it. False: the key died meanwhile; reserve again. */
export const blobLink: Command<BlobPush & { n: number; moved: boolean }, boolean> = {
  name: 'blob-link',
  async run(context, push) {
    const repository = await ensureRepository(context, push.repository);
    await checkGuards(context, repository.id, push.guards);
    await queueReview(context, repository.id, push.digest, context.tick + context.ticks.grace);
    if (!(await (push.moved ? makeLive(context, push) : stillLive(context, push))))
      return { result: false, touched: [] };
    await finishPush(context, repository.id, push);
    // A reservation took the row out of `damaged`; the record of it is open until here.
    if (push.moved) await recordHealed(context, push.digest, 'push', push.facts);
    await markActive(context, repository);
    return { result: true, touched: [] };
  },
};

async function makeLive(
  { sql, tick }: CommandContext,
  { digest, n, size }: { digest: Uint8Array; n: number; size: number },
): Promise<boolean> {
  const moved = await sql.run(
    `update blob set state = 'live', stored = 1, size = ?, lease_tick = 0
     where digest = ? and n = ? and state in ('incoming', 'live')`,
    size,
    digest,
    n,
  );
  if (moved === 0) {
    await sql.run('update dead_key set confirmed = 0, tick = ? where digest = ? and n = ?', tick, digest, n);
    return false;
  }
  await sql.run(
    'delete from content where digest = ? and not exists (select 1 from manifest m where m.digest = content.digest)',
    digest,
  );
  return true;
}

async function stillLive({ sql }: CommandContext, { digest, n }: { digest: Uint8Array; n: number }): Promise<boolean> {
  const row = await sql.get<{ n: number }>(
    "select n from blob where digest = ? and n = ? and state = 'live' {for no key update}",
    digest,
    n,
  );
  return row !== undefined;
}

/** A whole small blob in one transaction: its bytes are durable in the commit. */
export const blobPut: Command<
  BlobPush & { bytes: Uint8Array; checked: number | null },
  { linked: boolean; n: number }
> = {
  name: 'blob-put',
  grows: true,
  async run(context, push) {
    const { sql } = context;
    const repository = await ensureRepository(context, push.repository);
    await checkGuards(context, repository.id, push.guards);
    const [, { row, fresh }] = await together(
      queueReview(context, repository.id, push.digest, context.tick + context.ticks.grace),
      lockBlobWithKey(context, push.digest),
    );
    const writes: Promise<unknown>[] = [];
    if (row.state === 'live') {
      // Stored bytes are believed only when somebody has just looked.
      if (row.stored === 1 && push.checked !== row.n) return { result: { linked: false, n: row.n ?? 0 }, touched: [] };
    } else {
      const n = await keyNumber(context, push.digest, row, fresh);
      writes.push(
        sql.run(
          "update blob set state = 'live', size = ?, n = ?, stored = 0, lease_tick = 0 where digest = ?",
          push.size,
          n,
          push.digest,
        ),
        sql.run(
          'insert into content (digest, bytes) values (?, ?) on conflict (digest) do nothing',
          push.digest,
          push.bytes,
        ),
      );
    }
    await together(...writes, finishPush(context, repository.id, push), markActive(context, repository));
    if (row.state === 'damaged') await recordHealed(context, push.digest, 'push', push.facts);
    return { result: { linked: true, n: row.n ?? 0 }, touched: [] };
  },
};

/** Of two servers that write to one upload exactly one wins (threats.md case 11): a PUT must not end what a PATCH moved on. */
async function endUpload({ sql }: CommandContext, { id, fence }: UploadEnd): Promise<void> {
  if ((await sql.run('delete from upload where id = ? and fence = ?', id, fence)) === 1) return;
  const row = await sql.get<{ size: number; state: string }>('select size, state from upload where id = ?', id);
  throw row === undefined || row.state === CLOSED ? uploadUnknown() : uploadChanged(row.size);
}

async function finishPush(context: CommandContext, repositoryId: number, push: BlobPush): Promise<void> {
  await together(
    linkBlob(context, repositoryId, push.digest, push.size),
    push.upload === null ? undefined : endUpload(context, push.upload),
    emit(context, repositoryId, {
      type: 'blob.pushed',
      repository: push.repository,
      blob: { mediaType: OCTET_STREAM, digest: digestFromBytes(push.digest), size: push.size },
      ...push.facts,
    }),
  );
}

/** Links a blob of another repository; its size, or undefined where neither this nor the source has a live link. */
export const blobMount: Command<
  { repository: RepositoryName; from: RepositoryName; digest: Uint8Array; guards: Guards; facts: Facts },
  number | undefined
> = {
  name: 'blob-mount',
  grows: true,
  async run(context, { repository: name, from, digest, guards, facts }) {
    const repository = await ensureRepository(context, name);
    await checkGuards(context, repository.id, guards);
    await queueReview(context, repository.id, digest, context.tick + context.ticks.grace);
    const find = (where: RepositoryName): Promise<{ size: number } | undefined> =>
      context.sql.get<{ size: number }>(
        `select b.size from repository s join link l on l.repository_id = s.id and l.digest = ?
         join blob b on b.digest = l.digest and b.state = 'live'
         where s.gone = 0 and s.name = ? {for key share of l}`,
        digest,
        where,
      );
    const here = await find(name);
    if (here !== undefined) return { result: here.size, touched: [] };
    const source = await find(from);
    if (source === undefined) return { result: undefined, touched: [] };
    await linkBlob(context, repository.id, digest, source.size);
    await markActive(context, repository);
    const blob = { mediaType: OCTET_STREAM, digest: digestFromBytes(digest), size: source.size };
    await emit(context, repository.id, { type: 'blob.mounted', repository: name, blob, source: from, ...facts });
    return { result: source.size, touched: [] };
  },
};

/** HEAD's promise: pushes a near review away, then looks again. Undefined: gone after all. */
export const blobTouch: Command<
  { repository: RepositoryName; digest: Uint8Array },
  { size: number; n: number; stored: boolean } | undefined
> = {
  name: 'blob-touch',
  async run(context, { repository: name, digest }) {
    const repository = await findRepository(context, name);
    if (repository === undefined) return { result: undefined, touched: [] };
    const { grace } = context.ticks;
    await context.sql.run(
      'update gc_queue set due_tick = ? where repository_id = ? and digest = ? and due_tick <= ?',
      context.tick + grace,
      repository.id,
      digest,
      context.tick + Math.floor(grace / 2),
    );
    const row = await context.sql.get<{ size: number; n: number; stored: number }>(
      `select b.size, b.n, b.stored from link l join blob b on b.digest = l.digest and b.state = 'live'
       where l.repository_id = ? and l.digest = ?`,
      repository.id,
      digest,
    );
    return {
      result: row === undefined ? undefined : { size: row.size, n: row.n, stored: row.stored === 1 },
      touched: [],
    };
  },
};

/** Takes the link away from one repository. BLOB_UNKNOWN, or UNSUPPORTED naming the manifests here that need it. */
export const blobUnlink: Command<
  { repository: RepositoryName; digest: Uint8Array; guards: Guards; facts: Facts },
  undefined
> = {
  name: 'blob-unlink',
  async run(context, { repository: name, digest, guards, facts }) {
    const { sql, tick } = context;
    const unknown = (): RegistryError =>
      new RegistryError('BLOB_UNKNOWN', 'There is no such blob in this repository.', {
        detail: { digest: digestFromBytes(digest) },
      });
    const repository = await findRepository(context, name);
    if (repository === undefined) throw unknown();
    await queueReview(context, repository.id, digest, tick);
    const row = await sql.get<{ size: number | null }>(
      `select b.size from link l join blob b on b.digest = l.digest
       where l.repository_id = ? and l.digest = ? {for update of l}`,
      repository.id,
      digest,
    );
    if (row === undefined) throw unknown();
    const needed = await sql.all<{ digest: Uint8Array }>(
      `select m.digest from reference r join manifest m on m.id = r.manifest_id
       where r.digest = ? and r.repository_id = ? and m.deleted_tick = 0 limit 10`,
      digest,
      repository.id,
    );
    if (needed.length > 0) {
      const by = needed.map((manifest) => digestFromBytes(manifest.digest));
      throw new RegistryError(
        'UNSUPPORTED',
        `The blob is needed by ${by.join(', ')} in this repository: delete the manifest first.`,
        {
          detail: { manifests: by },
        },
      );
    }
    await refuseHeld(context, repository.id, { digest });
    await checkGuards(context, repository.id, guards);
    await sql.run('delete from link where repository_id = ? and digest = ?', repository.id, digest);
    await sql.run('delete from gc_queue where repository_id = ? and digest = ?', repository.id, digest);
    await queueReview(context, 0, digest, tick);
    const size = row.size ?? 0;
    await addUsage(sql, repository.id, -size, 0);
    const blob = { mediaType: OCTET_STREAM, digest: digestFromBytes(digest), size };
    await emit(context, repository.id, { type: 'blob.deleted', repository: name, blob, ...facts });
    return { result: undefined, touched: [name] };
  },
};

/** What became of a row whose bytes under key n are gone or wrong. `stale`: it names another key by now. */
export type DamageOutcome = 'stale' | 'stored-again' | 'damaged';

/**
 * Bytes under key n are gone or wrong. Where right ones are inline they go to a fresh key, else the blob is damaged:
 * 404 until it is healed or pushed again.
 */
export const blobDamaged: Command<{ digest: Uint8Array; n: number; found?: FoundBy; why?: string }, DamageOutcome> = {
  name: 'blob-damaged',
  async run(context, { digest, n, found = 'reindex', why = 'its bytes are missing or wrong' }) {
    const { sql } = context;
    const row = await sql.get<{ size: number }>(
      "select size from blob where digest = ? and n = ? and state = 'live' and stored = 1 {for no key update}",
      digest,
      n,
    );
    if (row === undefined) return { result: 'stale', touched: [] };
    const damage = { digest, n, size: row.size, found, why };
    const inline = await inlineBytes(context, digest);
    if (inline !== undefined && inline !== 'bad') {
      await killKey(context, digest, n);
      await sql.run(
        'update blob set n = ?, stored = 0 where digest = ?',
        await freshKeyNumber(context, digest),
        digest,
      );
      await recordDamage(context, damage, 'database');
      return { result: 'stored-again', touched: [] };
    }
    await sql.run('delete from content where digest = ?', digest);
    await sql.run("update blob set state = 'damaged', stored = 0 where digest = ?", digest);
    await recordDamage(context, damage);
    const touched = inline === 'bad' ? (await repositoriesOf(context, digest)).map(({ name }) => name) : [];
    return { result: 'damaged', touched };
  },
};
