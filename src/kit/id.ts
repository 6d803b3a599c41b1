/** Identifiers: random ones, UUIDv7 for what is shown outside, and cheap ones for requests. */
import { randomBytes } from 'node:crypto';

/** `bytes` random bytes, for ids and keys. Its own memory, so that it may be transferred to a thread. */
export function randomId(bytes: number): Uint8Array {
  return new Uint8Array(randomBytes(bytes));
}

/** A UUIDv7 (RFC 9562 §5.7) whose time part is `now`. */
export function uuidv7(now: number): string {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(now, 0, 6);
  bytes[6] = (bytes[6]! & 0x0f) | 0x70;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

const prefix = randomBytes(6).toString('hex');
let count = 0;

/** An id that no other request of this process has, and that starts alike in one process: cheap, not secret. */
export function requestId(): string {
  count = (count + 1) % 0xffff_ffff;
  return `${prefix}-${count.toString(36)}`;
}
