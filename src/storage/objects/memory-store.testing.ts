/** Object storage in memory, for tests of the core: small limits, small pages, and a hook before and after each call. */
import { Readable } from 'node:stream';
import { FaultError } from '../../oci/error.ts';
import type { ListedObject, ObjectLimits, ObjectStore } from './store.ts';

/** What a test may do around each call. Throwing before: nothing happens; throwing after: it happened, the answer is lost. */
export interface Hooks {
  before?(call: string, name: string): void | Promise<void>;
  after?(call: string, name: string): void | Promise<void>;
}

/** A stored object. */
export interface Held {
  readonly bytes: Buffer;
  readonly modifiedAt: number;
}

/** The bucket: several stores may share one. */
export type Bucket = Map<string, Held>;

/** A store over the bucket. Writing a piece's name twice with different bytes fails the test. */
export function memoryObjects(
  bucket: Bucket,
  options: { readonly hooks?: Hooks; readonly limits?: Partial<ObjectLimits>; readonly page?: number } = {},
): ObjectStore {
  const { hooks = {}, page = 1000 } = options;
  const limits = { minimumPart: 1, mostParts: 10_000, largestPart: 2 ** 32, ...options.limits };
  let clock = 0;

  async function around<T>(call: string, name: string, work: () => T): Promise<T> {
    await hooks.before?.(call, name);
    const result = work();
    await hooks.after?.(call, name);
    return result;
  }

  function write(name: string, bytes: Buffer): void {
    const there = bucket.get(name);
    if (there !== undefined && name.startsWith('uploads/') && !there.bytes.equals(bytes)) {
      throw new Error(`${name} was written twice`);
    }
    bucket.set(name, { bytes, modifiedAt: ++clock });
  }

  return {
    name: 'memory',
    limits,
    head: (name) =>
      around('head', name, () => {
        const held = bucket.get(name);
        return held === undefined ? undefined : { size: held.bytes.length, modifiedAt: held.modifiedAt };
      }),
    get: (name, range) =>
      around('get', name, () => {
        const held = bucket.get(name);
        if (held === undefined) return undefined;
        if (range !== undefined && range.start >= held.bytes.length) {
          throw new FaultError('corrupt', 'The range begins beyond the end.');
        }
        const part = held.bytes.subarray(range?.start ?? 0, range?.end ?? held.bytes.length);
        return {
          body: Readable.from(part.length === 0 ? [] : [part], { objectMode: false }),
          size: held.bytes.length,
        };
      }),
    put: (name, bytes) => around('put', name, () => write(name, Buffer.from(bytes))),
    delete: (name) => around('delete', name, () => void bucket.delete(name)),
    deleteMany: (names) =>
      around('deleteMany', names[0] ?? '', () => {
        if (names.length > 1000) throw new Error('too many names');
        for (const name of names) bucket.delete(name);
        return [];
      }),
    list: (prefix, token) =>
      around('list', prefix, () => {
        const names = [...bucket.keys()].filter((name) => name.startsWith(prefix) && name > (token ?? '')).sort();
        const objects: ListedObject[] = names.slice(0, page).map((name) => {
          const held = bucket.get(name)!;
          return { name, size: held.bytes.length, modifiedAt: held.modifiedAt };
        });
        return { objects, next: names.length > page ? objects.at(-1)!.name : undefined };
      }),
    join: (to, sources) =>
      around('join', to, () => {
        if (sources.length === 0 || sources.length > limits.mostParts) throw new Error(`${sources.length} sources`);
        const parts = sources.map(({ name, size }, i) => {
          const held = bucket.get(name);
          if (held === undefined || held.bytes.length !== size) throw new FaultError('corrupt', 'A source is missing.');
          if (i < sources.length - 1 && size < limits.minimumPart) throw new Error(`a part of ${size}`);
          if (size > limits.largestPart) throw new Error(`a part of ${size}`);
          return held.bytes;
        });
        write(to, Buffer.concat(parts));
      }),
    close() {},
  };
}
