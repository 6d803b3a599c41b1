/** Reads an event back from its row in the outbox, checked: what is typed as an event came from `emit`. */
import { isDigest } from '../oci/digest.ts';
import { FaultError } from '../oci/error.ts';
import { isRepositoryName } from '../oci/repository-name.ts';
import { isTag } from '../oci/tag.ts';
import type { Event, EventType } from './event.ts';

/** A row as it is selected for `eventOf`. */
export interface OutboxRow {
  readonly id: number;
  readonly uid: string;
  readonly type: string;
  readonly payload: string;
  readonly at: number;
}

type Check = (value: unknown) => boolean;
type Shape = Readonly<Record<string, Check>>;

const isText: Check = (value) => typeof value === 'string';
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const digest: Check = (value) => typeof value === 'string' && isDigest(value);
const tag: Check = (value) => typeof value === 'string' && isTag(value);
const repository: Check = (value) => typeof value === 'string' && isRepositoryName(value);
const tags: Check = (value) => Array.isArray(value) && value.every(tag);
const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);
const descriptor: Check = (value) =>
  isObject(value) &&
  isText(value.mediaType) &&
  digest(value.digest) &&
  Number.isSafeInteger(value.size) &&
  optional(isText)(value.artifactType) &&
  optional((map) => isObject(map) && Object.values(map).every(isText))(value.annotations);

/** What each type must hold besides its head. */
const SHAPES: { readonly [T in EventType]: Shape } = {
  'manifest.pushed': { manifest: descriptor, tags, subject: optional(digest) },
  'manifest.pulled': { manifest: descriptor, tag: optional(tag) },
  'manifest.deleted': { manifest: descriptor },
  'manifest.restored': { manifest: descriptor },
  'tag.moved': { tag, from: optional(digest), to: digest },
  'tag.deleted': { tag, from: digest },
  'tag.restored': { tag, to: digest },
  'blob.pushed': { blob: descriptor },
  'blob.mounted': { blob: descriptor, source: repository },
  'blob.deleted': { blob: descriptor },
  'blob.damaged': { blob: descriptor, reason: isText },
  'blob.healed': { blob: descriptor, healedFrom: isText },
  'repository.deleted': {},
};

const HEAD: Shape = {
  repository,
  actor: isText,
  request: (value) =>
    isObject(value) &&
    isText(value.id) &&
    ['address', 'host', 'method', 'userAgent'].every((name) => optional(isText)(value[name])),
};

/** Every type that this program knows. */
export const EVENT_TYPES = Object.keys(SHAPES) as readonly EventType[];

/** The event of a row. FaultError `corrupt` where the row is not one: of an unknown type, or not in its shape. */
export function eventOf(row: OutboxRow): Event {
  const shape = Object.hasOwn(SHAPES, row.type) ? SHAPES[row.type as EventType] : undefined;
  if (shape === undefined) throw corrupt(row, 'its type is not known');
  let payload: unknown;
  try {
    payload = JSON.parse(row.payload);
  } catch (cause) {
    throw corrupt(row, 'it is not JSON', cause);
  }
  if (!isObject(payload)) throw corrupt(row, 'it is not an object');
  for (const [name, check] of [...Object.entries(HEAD), ...Object.entries(shape)]) {
    if (!check(Object.hasOwn(payload, name) ? payload[name] : undefined)) throw corrupt(row, `its "${name}" is wrong`);
  }
  return { ...payload, type: row.type, id: row.uid, sequence: row.id, at: row.at } as Event;
}

function corrupt(row: OutboxRow, why: string, cause?: unknown): FaultError {
  return new FaultError('corrupt', `The event ${row.uid} (${row.type}) cannot be read: ${why}.`, { cause });
}
