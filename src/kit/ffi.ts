/**
 * The optional accelerator: a few functions of the C library and of OpenSSL inside the node binary, reached by
 * node:ffi. It is experimental in Node 26, so every member may be missing and everything that uses one has a plain
 * way beside it. Calls run on the calling thread and block it. Nothing here takes a pointer from outside.
 */
import { createHash } from 'node:crypto';
import { endianness } from 'node:os';

/** One hash of OpenSSL whose running state is plain memory. Contexts are made by `newContext` only. */
export interface NativeHash {
  newContext(): Buffer;
  update(context: Buffer, bytes: Uint8Array): void;
  /** The digest; the context is spent. */
  final(context: Buffer): Buffer;
}

/** What was found. A missing member means: take the plain way. */
export interface Native {
  readonly sha256?: NativeHash;
  readonly sha512?: NativeHash;
  /** Starts writing back this part of a file; returns at once unless the device's queue is full. Linux. */
  readonly startWriteBack?: (fd: number, offset: number, length: number) => void;
  /** Tells the kernel that these pages will not be read again soon. Linux. */
  readonly forgetPages?: (fd: number, offset: number, length: number) => void;
  /** Gives free heap memory back to the system. glibc. */
  readonly trimHeap?: () => void;
}

type Call = (...values: unknown[]) => unknown;
type Ffi = typeof import('node:ffi');
type Definitions = Parameters<Ffi['dlopen']>[1];

const NONE: Native = {};
let found: Native | undefined;
let wanted = true;
/** Libraries stay open as long as the process: their functions are used until its end. */
const kept: unknown[] = [];

/** The accelerator, looked up at the first call. Empty where it is switched off, missing or failing its self-test. */
export function native(): Native {
  if (!wanted) return NONE;
  found ??= load();
  return found;
}

/** Switches the accelerator off or on again for this thread. Running hashes are not touched. */
export function useNative(on: boolean): void {
  wanted = on;
}

function load(): Native {
  const ffi = loadModule();
  if (ffi === undefined || endianness() !== 'LE') return NONE;
  const writeBack = lookUp(ffi, 'sync_file_range', ['i32', 'i64', 'i64', 'u32'], 'i32');
  const advise = lookUp(ffi, 'posix_fadvise', ['i32', 'i64', 'i64', 'i32'], 'i32');
  const trim = lookUp(ffi, 'malloc_trim', ['u64'], 'i32');
  const sha256 = loadHash(ffi, 'SHA256', 'sha256');
  const sha512 = loadHash(ffi, 'SHA512', 'sha512');
  const linux = process.platform === 'linux';
  return {
    ...(sha256 === undefined ? {} : { sha256 }),
    ...(sha512 === undefined ? {} : { sha512 }),
    // 2 is SYNC_FILE_RANGE_WRITE; 4 is POSIX_FADV_DONTNEED. Both are hints: their results change nothing.
    ...(writeBack === undefined || !linux
      ? {}
      : { startWriteBack: (fd, at, length) => void writeBack(fd, BigInt(at), BigInt(length), 2) }),
    ...(advise === undefined || !linux
      ? {}
      : { forgetPages: (fd, at, length) => void advise(fd, BigInt(at), BigInt(length), 4) }),
    ...(trim === undefined || !linux ? {} : { trimHeap: () => void trim(0n) }),
  };
}

/** The module without its one warning: whoever reads the log can do nothing about it. Other warnings pass. */
function loadModule(): Ffi | undefined {
  const emitWarning = process.emitWarning;
  process.emitWarning = ((warning: string | Error, ...rest: unknown[]) => {
    if (typeof warning === 'string' && warning.startsWith('FFI ') && rest[0] === 'ExperimentalWarning') return;
    Reflect.apply(emitWarning, process, [warning, ...rest]);
  }) as typeof process.emitWarning;
  try {
    return process.getBuiltinModule('node:ffi');
  } catch {
    return undefined;
  } finally {
    process.emitWarning = emitWarning;
  }
}

function lookUp(ffi: Ffi, name: string, takes: readonly string[], gives: string): Call | undefined {
  try {
    const opened = ffi.dlopen(null, { [name]: { arguments: takes, return: gives } } as Definitions);
    kept.push(opened);
    return (opened.functions as Record<string, Call>)[name];
  } catch {
    return undefined;
  }
}

function loadHash(ffi: Ffi, name: 'SHA256' | 'SHA512', algorithm: 'sha256' | 'sha512'): NativeHash | undefined {
  const init = lookUp(ffi, `${name}_Init`, ['buffer'], 'i32');
  const update = lookUp(ffi, `${name}_Update`, ['buffer', 'buffer', 'u64'], 'i32');
  const final = lookUp(ffi, `${name}_Final`, ['buffer', 'buffer'], 'i32');
  if (init === undefined || update === undefined || final === undefined) return undefined;
  const hash: NativeHash = {
    newContext: () => {
      // More than either context needs (112 and 216 bytes), in memory that the collector does not move.
      const context = Buffer.allocUnsafeSlow(256).fill(0);
      if (init(context) !== 1) throw new Error(`${name}_Init failed`);
      return context;
    },
    update: (context, bytes) => {
      if (bytes.length === 0) return;
      if (update(context, bytes, BigInt(bytes.length)) !== 1) throw new Error(`${name}_Update failed`);
    },
    final: (context) => {
      const digest = Buffer.allocUnsafeSlow(algorithm === 'sha256' ? 32 : 64);
      if (final(digest, context) !== 1) throw new Error(`${name}_Final failed`);
      return digest;
    },
  };
  return works(hash, algorithm) ? hash : undefined;
}

/** A wrong answer here means another OpenSSL than the one this was written for: then it is not used. */
function works(hash: NativeHash, algorithm: 'sha256' | 'sha512'): boolean {
  try {
    const text = Buffer.alloc(333, 'longshore');
    const context = hash.newContext();
    hash.update(context, text.subarray(0, 100));
    hash.update(context, text.subarray(100));
    return hash.final(context).equals(createHash(algorithm).update(text).digest());
  } catch {
    return false;
  }
}
