/** Identifiers: random ones, UUIDv7 for what is shown outside, and cheap ones for requests. */
import { randomBytes, randomFillSync } from 'node:crypto';

/** `bytes` random bytes, for ids and keys. Its own memory, so that it may be transferred to a thread. */
export function randomId(bytes: number): Uint8Array {
  return new Uint8Array(bytes > 64 ? randomBytes(bytes) : someRandom(bytes));
}

const pool = Buffer.allocUnsafeSlow(4096);
let used = pool.length;

/** Random bytes of which nobody else gets the same, from a pool: a call of the generator costs more than its bytes. */
function someRandom(bytes: number): Buffer {
  if (used + bytes > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += bytes;
  const taken = Buffer.from(pool.subarray(used - bytes, used));
  pool.fill(0, used - bytes, used);
  return taken;
}

/** A UUIDv7 (RFC 9562 §5.7) whose time part is `now`. */
export function uuidv7(now: number): string {
  const bytes = someRandom(16);
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
