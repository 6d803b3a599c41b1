/** Errors on their way between threads and processes, where only plain data passes. */
import { type ErrorCode, type FaultCode, FaultError, LongshoreError, RegistryError } from '../oci/error.ts';

/** An error as plain data. `stack` is for the log only. */
export interface WireError {
  readonly kind: 'registry' | 'fault';
  readonly code: string;
  readonly message: string;
  readonly detail?: unknown;
  readonly status?: number;
  readonly retryAfterSeconds?: number;
  readonly stack?: string;
}

function plain(detail: unknown): unknown {
  try {
    return structuredClone(detail);
  } catch {
    return undefined;
  }
}

/** What was thrown, as data. Whatever is neither a RegistryError nor a FaultError is a bug. */
export function toWire(error: unknown): WireError {
  if (!(error instanceof LongshoreError)) {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { kind: 'fault', code: 'bug', message: 'A database command failed in a way it did not foresee.', stack };
  }
  const cause = error.cause instanceof Error ? `${error.cause.stack ?? error.cause.message}` : undefined;
  return {
    kind: error instanceof RegistryError ? 'registry' : 'fault',
    code: error.code,
    message: error.message,
    status: error.status,
    ...(error.detail === undefined ? {} : { detail: plain(error.detail) }),
    ...(error.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: error.retryAfterSeconds }),
    ...(cause === undefined ? {} : { stack: cause }),
  };
}

/** The error again, with the other side's stack as its cause. */
export function fromWire(wire: WireError): RegistryError | FaultError {
  const options = {
    ...(wire.detail === undefined ? {} : { detail: wire.detail }),
    ...(wire.status === undefined ? {} : { status: wire.status }),
    ...(wire.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: wire.retryAfterSeconds }),
    ...(wire.stack === undefined ? {} : { cause: new Error(wire.stack) }),
  };
  return wire.kind === 'registry'
    ? new RegistryError(wire.code as ErrorCode, wire.message, options)
    : new FaultError(wire.code as FaultCode, wire.message, options);
}

/** The same as `Value`, checked: integers only, none beyond 2^53. Throws FaultError `bug`. */
export function checkNumber(value: number): void {
  if (!Number.isSafeInteger(value)) throw new FaultError('bug', `A database value is not a safe integer: ${value}.`);
}
