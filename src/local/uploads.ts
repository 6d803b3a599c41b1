/**
 * Uploads in several requests. POST commits nothing; a row appears at the first stored byte and says how many bytes
 * are stored and where. One writer at a time: within this process by `busy`, between processes by the row's claim.
 */
import type { HotUpload } from '../database/database.ts';
import { failpoint } from '../kit/failpoint.ts';
import { createHasher, type Hasher } from '../kit/hash-stream.ts';
import { Lru } from '../kit/lru.ts';
import { algorithmOf, digestFromHex } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { Algorithm, Descriptor, Digest, RepositoryName, UploadId } from '../oci/names.ts';
import type { Call } from '../registry/call.ts';
import type { Guards } from '../registry/guard.ts';
import type { Chunk, RegistryWriter, UploadStatus } from '../registry/registry.ts';
import { UploadBroken, UploadLost } from '../storage/faults.ts';
import type { Appended } from '../storage/storage.ts';
import {
  brokenBody,
  checkLength,
  digestMismatch,
  freshFile,
  type KeepBroken,
  pushWhole,
  putFile,
  putInline,
  type Target,
} from './blobs.ts';
import { CLOSED, uploadAdvance, uploadClaim, uploadClose, uploadUnknown } from './commands/upload-commands.ts';
import { INLINE_BYTES, type LocalParts } from './parts.ts';
import { chunksOf, type Peeked, peek, prepend } from './peek.ts';
import type { OpenedUploadId } from './upload-id.ts';
import { type FileState, hasherAt, readState, type StoredState, writeState } from './upload-state.ts';

type Methods = Pick<RegistryWriter, 'startUpload' | 'uploadStatus' | 'appendUpload' | 'commitUpload' | 'cancelUpload'>;

/** An upload as one request finds it. */
interface Session {
  readonly call: Call;
  readonly repository: RepositoryName;
  readonly opened: OpenedUploadId;
  readonly row: HotUpload | undefined;
  readonly size: number;
  readonly state: StoredState | undefined;
  readonly guards: Guards;
}

/** What an append left: the bytes, their hash where it is known, and the fence of the row. */
interface Written {
  readonly at: Appended;
  readonly file: FileState;
  readonly hasher: Hasher | undefined;
  readonly fence: number;
}

/** The upload methods. */
export function localUploads(parts: LocalParts): Methods {
  const { database, uploadIds } = parts;
  /** Uploads that a request of this process is writing. */
  const busy = new Set<UploadId>();
  /** Hashes that can go on; another process, or this one after it forgot, does without. */
  const hashers = new Lru<UploadId, Hasher>({ count: 1000 });
  /** Ids that ended without ever having a row. Best effort: see routes.md §3. */
  const ended = new Lru<UploadId, true>({ count: 10_000 });

  async function open(call: Call, repository: RepositoryName, text: UploadId, guards: Guards = []): Promise<Session> {
    const opened = uploadIds.open(repository, call.principal.id, text);
    if (ended.peek(text) !== undefined) throw uploadUnknown();
    const row = await database.hot.uploadById(opened.id);
    if (row === undefined) {
      if (parts.tick() - opened.tick > database.ticks.uploadLifetime) throw uploadUnknown();
      return { call, repository, opened, row, size: 0, state: undefined, guards };
    }
    if (row.state === CLOSED || row.repository !== repository || row.principal !== call.principal.id)
      throw uploadUnknown();
    const state = row.size === 0 ? undefined : readState(row.state);
    return { call, repository, opened, row, size: row.size, state, guards };
  }

  /** Runs `work` as the only writer of the upload in this process. */
  async function alone<T>(
    call: Call,
    repository: RepositoryName,
    text: UploadId,
    guards: Guards | undefined,
    work: (session: Session) => Promise<T>,
  ): Promise<T> {
    // A text that is no id of this caller is found out below; it can only be busy if it is one.
    if (busy.has(text)) {
      const { size } = await open(call, repository, text);
      throw rangeInvalid(size, 'Another request is writing to this upload');
    }
    busy.add(text);
    try {
      const session = await open(call, repository, text, guards);
      return await work(session).catch((error: unknown) => unlessLost(session, error));
    } finally {
      busy.delete(text);
    }
  }

  /** An upload whose bytes are lost ends, so that the client begins another instead of trying this one for ever. */
  async function unlessLost(session: Session, error: unknown): Promise<never> {
    if (!(error instanceof UploadLost)) throw error;
    parts.log.warn('an upload lost its bytes and ends', { repository: session.repository, error });
    await end(session);
    throw new RegistryError('BLOB_UPLOAD_UNKNOWN', 'The disk lost bytes of this upload. Begin a new one.', {
      cause: error,
    });
  }

  async function append(session: Session, chunk: Chunk): Promise<UploadStatus> {
    const { opened, size } = session;
    checkOffset(session, chunk);
    if (chunk.length === 0) return { id: opened.text, size };
    const peeked =
      size > INLINE_BYTES || session.state?.kind === 'file'
        ? { rest: chunksOf(chunk.body) }
        : await peek(chunk.body, INLINE_BYTES - size);
    if ('rest' in peeked)
      return {
        id: opened.text,
        size: (await appendFile(session, chunk.length, peeked.rest, opened.algorithm ?? 'sha256', false)).at.size,
      };
    if (peeked.broke === undefined) checkLength(chunk.length, peeked.whole.length);
    const bytes = Buffer.concat([inlineOf(session), peeked.whole]);
    if (bytes.length > size) await advance(session, session.row?.fence ?? 0, bytes.length, { kind: 'inline', bytes });
    if (peeked.broke !== undefined) throw brokenBody(peeked.broke);
    return { id: opened.text, size: bytes.length };
  }

  /** Claims the upload, writes behind what is stored and says so. A body that breaks off keeps what arrived. */
  async function appendFile(
    session: Session,
    length: number | undefined,
    body: AsyncIterable<Uint8Array>,
    algorithm: Algorithm,
    closing: boolean,
  ): Promise<Written> {
    const claimed = await claim(session, algorithm);
    const { file, fence } = claimed;
    const from = claimed.at;
    const hasher = takeHasher(session, from.size, file);
    const options = { signal: session.call.signal, ...(hasher === undefined ? {} : { hash: hasher }) };
    let at: Appended;
    let broken: UploadBroken | undefined;
    try {
      at = await parts.storage.append(file.file, from, prepend(claimed.carry, body), options);
    } catch (error) {
      if (!(error instanceof UploadBroken)) throw error;
      broken = error;
      at = error.appended;
    }
    const intact = hasher !== undefined && hasher.length === at.size ? hasher : undefined;
    if (broken === undefined) {
      const came = at.size - from.size - claimed.carry.length;
      if (length !== undefined && length !== came) {
        await advance(session, fence, session.size, before(session, file, claimed.carry));
        checkLength(length, came);
      }
    }
    if (broken !== undefined && at.size < session.size) {
      // Not even the bytes that the row held came into storage: they were acknowledged, so the row keeps them.
      await advance(session, fence, session.size, before(session, file, claimed.carry));
      if (session.state?.kind === 'inline')
        parts.background(parts.storage.discard(file.file, at.state), 'remove the file of a broken append');
      throw broken.broke === 'storage' ? broken : brokenBody(broken.cause);
    }
    const next = fileState(parts, file, at, intact);
    const left = await advance(session, fence, at.size, next, closing && broken === undefined && !parts.soleWriter);
    if (intact !== undefined) hashers.set(session.opened.text, intact);
    if (broken !== undefined) throw broken.broke === 'storage' ? broken : brokenBody(broken.cause);
    return { at, file: next, hasher: intact, fence: left };
  }

  /**
   * The hash over what is stored, if it is known. It is forgotten until the row says what was written with it: where
   * another server's bytes won instead, a hash over as many bytes that are not there would be believed.
   */
  function takeHasher({ opened }: Session, size: number, file: FileState): Hasher | undefined {
    const kept = hashers.peek(opened.text);
    hashers.delete(opened.text);
    return hasherAt(size, file, kept, parts.storage.epoch);
  }

  /** What the row says after a chunk was dropped: the bytes that stood before it. */
  function before(session: Session, file: FileState, carry: Uint8Array): StoredState {
    if (session.state?.kind === 'inline') return { kind: 'inline', bytes: Buffer.from(carry) };
    return session.state ?? file;
  }

  async function claim(
    session: Session,
    algorithm: Algorithm,
  ): Promise<{ fence: number; file: FileState; at: Appended; carry: Uint8Array }> {
    const { opened, repository, call, row, size, guards } = session;
    const fresh: FileState = { kind: 'file', file: freshFile(), storage: {}, algorithm };
    failpoint('upload.begin.before');
    const claimed = await database.run(uploadClaim, {
      id: opened.id,
      repository,
      principal: call.principal.id,
      fence: row?.fence ?? 0,
      state: writeState(fresh),
      guards,
    });
    failpoint('upload.begin.after');
    const asItStands = parts.soleWriter || !claimed.takenOver || parts.storage.appendsApart === true;
    if (session.state?.kind === 'file' && asItStands) {
      return {
        fence: claimed.fence,
        file: session.state,
        at: { size, state: session.state.storage },
        carry: new Uint8Array(0),
      };
    }
    const mine = row === undefined ? fresh : { ...fresh, file: freshFile() };
    const begun = await parts.storage.begin(mine.file, {});
    if (session.state?.kind !== 'file')
      return { fence: claimed.fence, file: mine, at: begun, carry: inlineOf(session) };
    // Another process may still be writing to the old file: what is stored of it is copied, never written again.
    const old = await parts.storage.readUpload(session.state.file, { size, state: session.state.storage });
    const at = await parts.storage.append(mine.file, begun, old, { signal: call.signal });
    return {
      fence: claimed.fence,
      file: { ...mine, ...(session.state.hash === undefined ? {} : { hash: session.state.hash }) },
      at,
      carry: new Uint8Array(0),
    };
  }

  async function advance(
    session: Session,
    fence: number,
    size: number,
    state: StoredState,
    closing = false,
  ): Promise<number> {
    const { opened, repository, call, guards } = session;
    failpoint('upload.advance.before');
    const next = await database.run(uploadAdvance, {
      id: opened.id,
      repository,
      principal: call.principal.id,
      fence,
      size,
      state: writeState(state),
      guards,
      closing,
    });
    failpoint('upload.advance.after');
    return next;
  }

  async function commit(session: Session, digest: Digest, last: Chunk | undefined): Promise<Descriptor> {
    const { call, repository, opened, row, size, guards } = session;
    if (last !== undefined) checkOffset(session, last);
    const target: Target = {
      call,
      repository,
      digest,
      upload: row === undefined ? null : { id: opened.id, fence: row.fence },
      guards,
    };
    const hasLast = last !== undefined && last.length !== 0;
    if (row === undefined && hasLast)
      return pushWhole(parts, target, last.body, last.length, (arrived) => keepBroken(session, arrived));
    if (session.state?.kind !== 'file') {
      const peeked: Peeked = hasLast ? await peek(last.body, INLINE_BYTES - size) : { whole: Buffer.alloc(0) };
      if (!('rest' in peeked)) {
        if (peeked.broke !== undefined) {
          await keepBroken(session, { whole: Buffer.concat([inlineOf(session), peeked.whole]) });
          throw brokenBody(peeked.broke);
        }
        checkLength(last?.length, peeked.whole.length);
        return putInline(parts, target, Buffer.concat([inlineOf(session), peeked.whole]));
      }
      return finish(target, await appendFile(session, last?.length, peeked.rest, algorithmOf(digest), true));
    }
    if (hasLast)
      return finish(target, await appendFile(session, last.length, chunksOf(last.body), session.state.algorithm, true));
    const { at, file, fence } = parts.soleWriter
      ? { at: { size, state: session.state.storage }, file: session.state, fence: row?.fence ?? 0 }
      : await claim(session, session.state.algorithm);
    const hasher = hasherAt(at.size, file, hashers.peek(opened.text), parts.storage.epoch);
    return finish(target, { at, file, hasher, fence });
  }

  /** A closing body broke off: the upload goes on behind what arrived. */
  async function keepBroken(session: Session, arrived: Parameters<KeepBroken>[0]): Promise<void> {
    const fence = session.row?.fence ?? 0;
    if ('whole' in arrived) {
      if (arrived.whole.length > session.size)
        await advance(session, fence, arrived.whole.length, { kind: 'inline', bytes: arrived.whole });
      return;
    }
    const { file, at, hasher } = arrived;
    const intact = hasher.length === at.size ? hasher : undefined;
    await advance(
      session,
      fence,
      at.size,
      fileState(parts, { kind: 'file', file, storage: at.state, algorithm: hasher.algorithm }, at, intact),
    );
    if (intact !== undefined) hashers.set(session.opened.text, intact);
  }

  async function finish(target: Target, stored: Written): Promise<Descriptor> {
    const { at, file, fence } = stored;
    const algorithm = algorithmOf(target.digest);
    const hasher = stored.hasher?.algorithm === algorithm ? stored.hasher : await hashAgain(file.file, at, algorithm);
    const actual = digestFromHex(algorithm, hasher.digestHex());
    if (actual !== target.digest) throw digestMismatch(target.digest, actual);
    // The row as this request left it: it may have made it.
    const upload = target.upload === null ? null : { ...target.upload, fence };
    return putFile(parts, { ...target, upload }, file.file, at);
  }

  /** One more read of the stored bytes: after a restart without an exported hash, or for another algorithm. */
  async function hashAgain(file: UploadId, at: Appended, algorithm: Algorithm): Promise<Hasher> {
    const hasher = createHasher(algorithm);
    for await (const chunk of await parts.storage.readUpload(file, at)) hasher.update(chunk as Uint8Array);
    return hasher;
  }

  /** Ends the upload and removes its bytes; its id answers 404 from now on. */
  async function end(session: Session): Promise<void> {
    const { opened, repository, call } = session;
    ended.set(opened.text, true);
    hashers.delete(opened.text);
    const { state } = await database.run(uploadClose, { id: opened.id, repository, principal: call.principal.id });
    const stored = state === undefined ? undefined : readState(state);
    if (stored?.kind === 'file')
      parts.background(parts.storage.discard(stored.file, stored.storage), 'remove the file of a closed upload');
  }

  return {
    async startUpload(call, repository, options = {}) {
      const algorithm = options.algorithm ?? (options.digest === undefined ? undefined : algorithmOf(options.digest));
      return { id: uploadIds.make(repository, call.principal.id, parts.tick(), algorithm), size: 0 };
    },
    async uploadStatus(call, repository, id) {
      const { size } = await open(call, repository, id);
      return { id, size };
    },
    appendUpload: (call, repository, id, chunk, guards) =>
      alone(call, repository, id, guards, (session) => append(session, chunk)),
    commitUpload: (call, repository, id, digest, last, guards) =>
      alone(call, repository, id, guards, async (session) => {
        try {
          const descriptor = await commit(session, digest, last);
          hashers.delete(id);
          ended.set(id, true);
          return descriptor;
        } catch (error) {
          if (error instanceof RegistryError && error.code === 'DIGEST_INVALID') await end(session);
          throw error;
        }
      }),
    cancelUpload: (call, repository, id, guards) => alone(call, repository, id, guards, end),
  };
}

function rangeInvalid(size: number, why: string): RegistryError {
  return new RegistryError('RANGE_INVALID', `${why}: it has ${size} bytes, so the next chunk starts at ${size}.`, {
    detail: { size },
  });
}

function checkOffset({ size }: Session, chunk: Chunk): void {
  if (chunk.offset !== undefined && chunk.offset !== size)
    throw rangeInvalid(size, `The chunk starts at ${chunk.offset}, which is not where the upload stands`);
}

function inlineOf({ state }: Session): Buffer {
  return state?.kind === 'inline' ? state.bytes : Buffer.alloc(0);
}

function fileState({ storage }: LocalParts, file: FileState, at: Appended, hasher: Hasher | undefined): FileState {
  const exported = hasher?.exportState();
  const { hash: _old, ...rest } = file;
  return {
    ...rest,
    storage: at.state,
    ...(exported === undefined ? {} : { hash: { state: Buffer.from(exported), epoch: storage.epoch } }),
  };
}
