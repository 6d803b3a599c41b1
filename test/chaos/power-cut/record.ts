/**
 * Records what the real program does to its files: `longshore serve` on a folder that does not exist yet, with short
 * ticks, under strace, while one client pushes, moves and deletes tags, deletes manifests and waits for spill, mirror
 * and collector; then another process undeletes. Gives the events with the answers among them, and what each answer
 * promised.
 */
import assert from 'node:assert/strict';
import { existsSync, globSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Answer, type Client, client } from '../../support/client.ts';
import { type Image, image, jsonPiece, type Piece, piece, TYPES } from '../../support/images.ts';
import { choices } from '../../support/random.ts';
import { startLongshore } from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { run } from '../../support/tools.ts';
import type { Operation } from './ledger.ts';
import { eventsOf, STRACE, type TraceEvent } from './trace.ts';

/** A recorded run. */
export interface Recording {
  /** The folder that is there for sure; `data` lies below it. */
  readonly root: string;
  readonly data: string;
  readonly events: readonly TraceEvent[];
  readonly operations: readonly Operation[];
  /** Every blob and manifest that was pushed, by digest. */
  readonly pieces: ReadonlyMap<string, Piece>;
}

/** Ticks of the recorded server, and of the checks after it. */
export const TICKS = { grace: 8, undelete: 2, uploadLifetime: 60 };
const CONFIG = {
  gc: { tick: '1s', graceTicks: TICKS.grace, undeleteTicks: TICKS.undelete, deleteAfterTicks: 1, haltPercent: 100 },
  uploads: { lifetime: '60s' },
  log: { access: false },
};
/** How long jobs may take to do their part, milliseconds. */
const PATIENCE = 180_000;
const OCTETS = { 'content-type': 'application/octet-stream' };

/** Bytes that the seed decides. */
function randomOf(seed: number, size: number): Buffer {
  const random = choices(seed);
  const bytes = Buffer.alloc(size);
  for (let at = 0; at + 4 <= size; at += 4) bytes.writeUInt32LE(random.below(2 ** 32), at);
  return bytes;
}

const layer = (seed: number, size: number): Piece => piece(randomOf(seed, size));
const imageOf = (name: string, ...layers: Piece[]): Image =>
  image({ layers, config: jsonPiece({ architecture: 'amd64', os: 'linux', of: name }, TYPES.config) });

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const ends = performance.now() + PATIENCE; !holds(); await sleep(50))
    assert.ok(performance.now() < ends, `${what} did not happen`);
}

/** Sends requests and writes down what their answers promise. */
function recorder(http: Client) {
  const operations: Operation[] = [];
  const pieces = new Map<string, Piece>();
  async function send(operation: Operation, wanted: number, ...ask: Parameters<Client['send']>): Promise<Answer> {
    operations.push(operation);
    const answer = await http.send(...ask);
    assert.equal(answer.status, wanted, `${ask[0]} ${ask[1]}: ${answer.body}`);
    return answer;
  }
  const next = (answer: Answer): string => {
    const { pathname, search } = new URL(answer.headers.location ?? '', http.url);
    return pathname + search;
  };
  async function begin(repository: string): Promise<string> {
    return next(await send({ kind: 'other', repository }, 202, 'POST', `/v2/${repository}/blobs/uploads/`));
  }
  async function patch(repository: string, location: string, bytes: Uint8Array, at: number): Promise<string> {
    const headers = { ...OCTETS, 'content-range': `${at}-${at + bytes.length - 1}` };
    return next(await send({ kind: 'other', repository }, 202, 'PATCH', location, { headers, body: bytes }));
  }
  async function blob(repository: string, pushed: Piece, chunk?: number): Promise<void> {
    const { digest, bytes } = pushed;
    pieces.set(digest, pushed);
    let location = await begin(repository);
    if (chunk !== undefined) {
      for (let at = 0; at < bytes.length; at += chunk)
        location = await patch(repository, location, bytes.subarray(at, at + chunk), at);
    }
    const path = `${location}${location.includes('?') ? '&' : '?'}digest=${digest}`;
    const body = chunk === undefined ? { body: bytes } : {};
    await send({ kind: 'blob', repository, digest }, 201, 'PUT', path, { headers: OCTETS, ...body });
  }
  const blobsOf = (pushed: Image): string[] => pushed.blobs.map(({ digest }) => digest);
  return {
    operations,
    pieces,
    begin,
    patch,
    blob,
    async manifest(repository: string, pushed: Image, tag?: string): Promise<void> {
      const { digest, bytes, mediaType } = pushed.manifest;
      pieces.set(digest, pushed.manifest);
      const path = `/v2/${repository}/manifests/${tag ?? digest}`;
      const operation: Operation = { kind: 'manifest', repository, digest, tag, blobs: blobsOf(pushed) };
      await send(operation, 201, 'PUT', path, { headers: { 'content-type': mediaType }, body: bytes });
    },
    /** `forLong`: a manifest will name it before the collector comes. */
    async mount(repository: string, { digest }: Piece, from: string, forLong: boolean): Promise<void> {
      const path = `/v2/${repository}/blobs/uploads/?mount=${digest}&from=${from}`;
      const operation: Operation = forLong ? { kind: 'blob', repository, digest } : { kind: 'other', repository };
      await send(operation, 201, 'POST', path);
    },
    async deleteTag(repository: string, tag: string): Promise<void> {
      await send({ kind: 'delete-tag', repository, tag }, 202, 'DELETE', `/v2/${repository}/manifests/${tag}`);
    },
    async deleteManifest(repository: string, pushed: Image): Promise<void> {
      const { digest } = pushed.manifest;
      const operation: Operation = { kind: 'delete-manifest', repository, digest, blobs: blobsOf(pushed) };
      await send(operation, 202, 'DELETE', `/v2/${repository}/manifests/${digest}`);
    },
  };
}

/** Waits until the process's end is in the trace: strace is no child of ours. */
async function readTrace(file: string, pid: number): Promise<string> {
  const over = new RegExp(`^${pid} .*\\+\\+\\+ exited`, 'm');
  await until('the end of the trace', () => over.test(readFileSync(file, 'latin1')));
  return readFileSync(file, 'latin1');
}

/** Records one run; takes about a quarter of a minute, most of it waiting for jobs. */
export async function record(strace: string, seed: number): Promise<Recording> {
  const root = join(temporaryFolder('power-cut'), 'root');
  const data = join(root, 'made', 'data');
  const traces = temporaryFolder('power-cut-trace');
  const file = join(traces, 'serve');
  mkdirSync(root);
  const server = await startLongshore({
    data: root,
    args: ['--data', data],
    wrapper: [strace, ...STRACE, '-o', file],
    config: CONFIG,
  });
  const http = client(server.url, {}, 1);
  const to = recorder(http);
  const large = layer(seed, 1_048_576 + 700);
  const [first, second] = [imageOf('first', layer(seed + 1, 3_000)), imageOf('second', layer(seed + 2, 5_000))];
  const big = imageOf('big', large, layer(seed + 3, 100_000));
  const kept = imageOf('kept', layer(seed + 4, 150_001));
  const pushAll = async (repository: string, pushed: Image, tag?: string, chunk?: number): Promise<void> => {
    for (const each of pushed.blobs) await to.blob(repository, each, each.bytes.length > 1e6 ? chunk : undefined);
    await to.manifest(repository, pushed, tag);
  };

  await pushAll('cut/small', first, 'v1');
  await pushAll('cut/big', big, 'v1', 524_288);
  await pushAll('cut/small', second, 'v1');
  await to.deleteManifest('cut/small', first);
  await pushAll('cut/kept', kept, 'stays');
  await to.manifest('cut/kept', kept, 'goes');
  await to.deleteTag('cut/kept', 'goes');
  const stored = (digest: string): string[] => globSync(join(data, 'storage/blobs/sha256/*', `${digest.slice(7)}*`));
  await until('the spill', () => stored(second.manifest.digest).length > 0 && stored(kept.manifest.digest).length > 0);
  await until('the mirror', () => existsSync(join(data, 'storage/records/index/cut/kept/_chunks.json')));
  await to.mount('cut/mounted', kept.blobs[1]!, 'cut/kept', false);
  await to.deleteManifest('cut/big', big);
  await until('the collection', () => stored(large.digest).length === 0);
  // The same digest once more: its old key is dead for ever.
  await to.blob('cut/big', large);
  const again = imageOf('again', large);
  await to.blob('cut/big', again.blobs[0]!);
  await to.manifest('cut/big', again, 'v2');
  await to.mount('cut/mounted', kept.blobs[1]!, 'cut/kept', true);
  await to.blob('cut/mounted', kept.blobs[0]!);
  await to.manifest('cut/mounted', kept);
  // An upload that nobody ends.
  await to.patch('cut/small', await to.begin('cut/small'), randomOf(seed + 5, 70_000), 0);
  await to.deleteManifest('cut/mounted', kept);
  http.close();
  await server.stop();
  const served = await readTrace(file, server.pid);

  const restored = join(traces, 'restore');
  const child = join(import.meta.dirname, 'restore-child.ts');
  // Without -D: strace ends after what it traces.
  const strict = STRACE.filter((option) => option !== '-D');
  await run(strace, [...strict, '-o', restored, process.execPath, child, data, 'cut/mounted', kept.manifest.digest]);
  const digest = kept.manifest.digest;
  to.operations.push({
    kind: 'restore',
    repository: 'cut/mounted',
    digest,
    blobs: kept.blobs.map((each) => each.digest),
  });

  const lines = served.split('\n').length;
  const events = [...eventsOf(served, root), ...eventsOf(readFileSync(restored, 'latin1'), root, lines)];
  return {
    root,
    data,
    events: onlyOwnAnswers(events, to.operations.length),
    operations: to.operations,
    pieces: to.pieces,
  };
}

/** The start asks whether the server answers yet; what comes after is ours. */
function onlyOwnAnswers(events: readonly TraceEvent[], wanted: number): TraceEvent[] {
  const answers = events.filter(({ kind }) => kind === 'answer');
  assert.ok(answers.length >= wanted, `${answers.length} answers in the trace, ${wanted} were given`);
  const strangers = new Set(answers.slice(0, answers.length - wanted));
  return events.filter((event) => !strangers.has(event));
}
