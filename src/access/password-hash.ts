/**
 * Password hashes as text: argon2id in the PHC string format (RFC 9106; 19 MiB, 2 passes, as OWASP has it), and
 * verification of bcrypt's `$2a$`, `$2b$`, `$2y$`. What a text says of its own cost is bounded before any work.
 */
import { argon2, randomBytes, timingSafeEqual } from 'node:crypto';
import { compare } from 'bcryptjs';

/** Longest password, in UTF-8 bytes. */
export const MAX_PASSWORD = 1024;

const MEMORY_KIB = 19_456;
const PASSES = 2;
const LANES = 1;
const TAG_BYTES = 32;
const SALT_BYTES = 16;

/** Most that a foreign hash may cost: 64 MiB, 10 passes, 4 lanes; bcrypt 2^14 rounds. */
const MOST = { memory: 65_536, passes: 10, lanes: 4, bcrypt: 14 } as const;

const PHC = /^\$argon2id\$v=19\$m=(\d{1,6}),t=(\d{1,3}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})$/;
const BCRYPT = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$/;

interface Argon {
  readonly memory: number;
  readonly passes: number;
  readonly lanes: number;
  readonly salt: Buffer;
  readonly tag: Buffer;
}

function parseArgon(text: string): Argon | undefined {
  const parts = PHC.exec(text);
  if (parts === null) return undefined;
  const [memory, passes, lanes] = [Number(parts[1]), Number(parts[2]), Number(parts[3])];
  if (memory < 8 * lanes || memory > MOST.memory) return undefined;
  if (passes < 1 || passes > MOST.passes || lanes < 1 || lanes > MOST.lanes) return undefined;
  return { memory, passes, lanes, salt: Buffer.from(parts[4]!, 'base64'), tag: Buffer.from(parts[5]!, 'base64') };
}

/** Whether `verifyPassword` can do anything with this text, within the bounds of cost. */
export function isSupportedHash(text: string): boolean {
  const bcrypt = BCRYPT.exec(text);
  if (bcrypt !== null) return Number(bcrypt[1]) >= 4 && Number(bcrypt[1]) <= MOST.bcrypt;
  return parseArgon(text) !== undefined;
}

function derive(password: string, parts: Omit<Argon, 'tag'>, tagLength: number): Promise<Buffer> {
  const parameters = {
    message: Buffer.from(password, 'utf8'),
    nonce: parts.salt,
    memory: parts.memory,
    passes: parts.passes,
    parallelism: parts.lanes,
    tagLength,
  };
  return new Promise((resolve, reject) => {
    argon2('argon2id', parameters, (error, key) => (error === null ? resolve(key) : reject(error)));
  });
}

const unpadded = (bytes: Buffer): string => bytes.toString('base64').replace(/=+$/, '');

function encode(salt: Buffer, tag: Buffer): string {
  return `$argon2id$v=19$m=${MEMORY_KIB},t=${PASSES},p=${LANES}$${unpadded(salt)}$${unpadded(tag)}`;
}

/** The PHC string of a password under a new salt. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  const tag = await derive(password, { memory: MEMORY_KIB, passes: PASSES, lanes: LANES, salt }, TAG_BYTES);
  return encode(salt, tag);
}

/** A hash of no password, which costs as much to check as one of `hashPassword`. */
export function dummyHash(): string {
  return encode(randomBytes(SALT_BYTES), randomBytes(TAG_BYTES));
}

/** Whether the password is that of the hash. False, without work, for a text that is not supported. */
export async function verifyPassword(password: string, hash: string): Promise<boolean> {
  if (!isSupportedHash(hash)) return false;
  if (hash.startsWith('$2')) return compare(password, hash);
  const parts = parseArgon(hash)!;
  return timingSafeEqual(await derive(password, parts, parts.tag.length), parts.tag);
}
