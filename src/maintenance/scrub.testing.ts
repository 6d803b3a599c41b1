/** An installation in small for the tests of scrub and healing: a database, files, a second place, and what they say. */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { COMMANDS } from '../commands.ts';
import { script } from '../database/commands.testing.ts';
import type { Database, Value } from '../database/database.ts';
import type { Event } from '../events/event.ts';
import { eventOf, type OutboxRow } from '../events/read.ts';
import { type Clock, systemClock } from '../kit/clock.ts';
import { type Log, noMetrics, silentLog } from '../kit/log.ts';
import { type Local, openLocal } from '../local/open.ts';
import { blobKey } from '../oci/blob-key.ts';
import { digestOf, digestToBytes } from '../oci/digest.ts';
import { OCI_MANIFEST } from '../oci/media-types.ts';
import type { Algorithm, Digest, RepositoryName, Tag } from '../oci/names.ts';
import { openFsStorage } from '../storage/fs/fs.ts';
import { memoryStorage } from '../storage/memory.ts';
import type { BlobStorage } from '../storage/storage.ts';
import { CALL, type OpenDatabase, TICKS } from './gc.testing.ts';
import { type Healer, healer } from './heal.ts';
import type { HealingSource } from './healing-source.ts';
import { type Scrubbed, type Scrubber, type ScrubSettings, type StepOptions, scrubber } from './scrub.ts';
import { trustMeasures } from './scrub-measures.ts';
import { spill } from './spill.ts';

/** Where bytes lie in a test. */
export type Kind = 'fs' | 'memory';

/** Everything, and short ways to use it. */
export interface Watched {
  readonly database: Database;
  /** The storage under test. Its methods may be replaced. */
  readonly storage: BlobStorage;
  readonly store: Local;
  readonly lines: { readonly level: string; readonly message: string; readonly fields: unknown }[];
  readonly counts: Map<string, number>;
  /** Steps a round to its end, as fast as it goes; the sum. */
  scrub(options?: StepOptions, scrub?: Scrubber): Promise<Scrubbed>;
  scrubber(settings?: Partial<ScrubSettings>, clock?: Clock): Scrubber;
  healer(sources: readonly HealingSource[], more?: { stallMilliseconds?: number }): Healer;
  spill(): Promise<void>;
  push(repository: string, bytes: Uint8Array, algorithm?: Algorithm): Promise<Digest>;
  /** An image of one config; its manifest's digest. */
  pushManifest(repository: string, text: string, tag: string): Promise<Digest>;
  /** What a client gets: the bytes, or the code of the error. */
  pull(repository: string, digest: Digest): Promise<Buffer | string>;
  pullManifest(repository: string, digest: Digest): Promise<Uint8Array | string>;
  state(digest: Digest): Promise<{ state: string; n: number; stored: number; size: number } | undefined>;
  /** Stored bytes as they lie, and others in their place. */
  stored(digest: Digest, n?: number): Promise<Buffer>;
  spoil(digest: Digest, change: (bytes: Buffer) => Buffer | undefined, n?: number): Promise<void>;
  events(): Promise<Event[]>;
  sql(text: string, ...values: readonly Value[]): Promise<void>;
  rows<Row>(text: string, ...values: readonly Value[]): Promise<Row[]>;
}

/** A bit turned over in the middle. */
export function flip(bytes: Buffer): Buffer {
  const changed = Buffer.from(bytes);
  changed[bytes.length >> 1]! ^= 8;
  return changed;
}

/** Opens one, hands it over and closes it. */
export async function watched(open: OpenDatabase, kind: Kind, work: (here: Watched) => Promise<void>): Promise<void> {
  const { database, stop } = await open({
    commands: [...COMMANDS, script],
    writer: new URL('./writer.testing.ts', import.meta.url),
    ticks: TICKS,
  });
  const root = mkdtempSync(join(tmpdir(), 'longshore-scrub-'));
  // A copy of the methods, so that a test can replace one.
  const storage: BlobStorage = {
    ...(kind === 'fs' ? await openFsStorage({ root, durability: 'relaxed' }) : memoryStorage()),
  };
  const lines: Watched['lines'][number][] = [];
  const line = (level: string) => (message: string, fields?: unknown) => void lines.push({ level, message, fields });
  const log: Log = { ...silentLog, info: line('info'), warn: line('warn'), error: line('error') };
  const counts = new Map<string, number>();
  const measure = (name: string) => (value: number) => void counts.set(name, (counts.get(name) ?? 0) + value);
  const metrics = {
    ...noMetrics,
    counter: measure,
    gauge: (name: string) => (value: number) => void counts.set(name, value),
  };
  const parts = { database, storage, clock: systemClock, log, metrics, measures: trustMeasures(metrics) };
  const store = await openLocal({ ...parts, sparse: 'none', tickMilliseconds: 3_600_000, movesTick: false });
  const settings: ScrubSettings = { rate: 1024 ** 3, every: 86_400_000 };
  const { signal } = new AbortController();
  const another: Watched['scrubber'] = (changed = {}, clock = systemClock) =>
    scrubber({ ...parts, clock, settings: { ...settings, ...changed } });
  const own = another();
  const name = (text: string): RepositoryName => text as RepositoryName;
  const push: Watched['push'] = async (repository, bytes, algorithm = 'sha256') => {
    const digest = digestOf(bytes, algorithm);
    const body = Readable.from([Buffer.from(bytes)], { objectMode: false });
    await store.pushBlob(CALL, name(repository), { digest, size: bytes.length }, body);
    return digest;
  };
  const state: Watched['state'] = (digest) =>
    database.query.get('select state, n, stored, size from blob where digest = ?', digestToBytes(digest));
  const keyOf = async (digest: Digest, n?: number) => blobKey(digest, n ?? (await state(digest))?.n ?? 0);
  const codeOf = (error: unknown): string => (error as { code?: string }).code ?? String(error);
  try {
    await work({
      ...{ database, storage, store, lines, counts, push, state, scrubber: another },
      async scrub(options = { begin: true }, scrub = own) {
        const sum = { blobs: 0, bytes: 0, damaged: 0, unreadable: 0 };
        for (let begin = options.begin === true; ; begin = false) {
          const { more, waits, ...done } = await scrub.step(signal, { fullSpeed: true, ...options, begin });
          for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += done[key];
          if (!more || waits !== undefined) return { ...sum, more, ...(waits === undefined ? {} : { waits }) };
        }
      },
      healer: (sources, more = {}) => healer({ ...parts, sources, ...more }),
      async spill() {
        await spill(parts).run(100_000, signal);
      },
      async pushManifest(repository, text, tag) {
        const config = await push(repository, Buffer.from(`{"image":"${text}"}`));
        const value = {
          schemaVersion: 2,
          mediaType: OCI_MANIFEST,
          config: { mediaType: 'application/x', digest: config, size: 1 },
          layers: [],
        };
        const tags = { tags: [tag as Tag] };
        const bytes = Buffer.from(JSON.stringify(value));
        return (await store.pushManifest(CALL, name(repository), bytes, OCI_MANIFEST, tags)).descriptor.digest;
      },
      async pull(repository, digest) {
        try {
          const content = await store.getBlob(CALL, name(repository), digest);
          const chunks: Buffer[] = [];
          if (content.bytes !== undefined) return Buffer.from(content.bytes);
          if (content.openRandom === undefined) for await (const chunk of content.open()) chunks.push(chunk as Buffer);
          else {
            // As the pump does it.
            const reader = await content.openRandom();
            try {
              for (let at = 0; at < content.descriptor.size; ) {
                const buffer = Buffer.alloc(Math.min(100_000, content.descriptor.size - at));
                const read = await reader.read(buffer, at);
                if (read === 0) throw new Error('ended early');
                chunks.push(buffer.subarray(0, read));
                at += read;
              }
            } finally {
              await reader.close();
            }
          }
          return Buffer.concat(chunks);
        } catch (error) {
          return codeOf(error);
        }
      },
      async pullManifest(repository, digest) {
        try {
          return (await store.getManifest(CALL, name(repository), { digest })).bytes;
        } catch (error) {
          return codeOf(error);
        }
      },
      async stored(digest, n) {
        const chunks: Buffer[] = [];
        for await (const chunk of await storage.read(await keyOf(digest, n))) chunks.push(chunk as Buffer);
        return Buffer.concat(chunks);
      },
      async spoil(digest, change, n) {
        const key = await keyOf(digest, n);
        if (kind === 'fs') {
          const file = join(root, 'blobs', key);
          const changed = change(readFileSync(file));
          if (changed === undefined) return rmSync(file);
          truncateSync(file);
          return writeFileSync(file, changed);
        }
        const chunks: Buffer[] = [];
        for await (const chunk of await storage.read(key)) chunks.push(chunk as Buffer);
        const changed = change(Buffer.concat(chunks));
        await storage.delete(key);
        if (changed !== undefined) await storage.put(key, changed);
      },
      async events() {
        const rows = await database.query.all<OutboxRow>('select id, uid, type, payload, at from outbox order by id');
        return rows.map(eventOf).filter(({ type }) => type === 'blob.damaged' || type === 'blob.healed');
      },
      async sql(text, ...values) {
        await database.run(script, { steps: [{ text, values }] });
      },
      rows: (text, ...values) => database.query.all(text, ...values),
    });
  } finally {
    await store.close();
    await storage.close();
    await stop();
    rmSync(root, { recursive: true, force: true });
  }
}
