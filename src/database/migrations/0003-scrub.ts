/**
 * The scrub's round and place, and what was found damaged. The round is in the second file of SQLite: it moves every
 * second or so and must not disturb the caches.
 */
import type { Migration } from '../migrate.ts';

const TABLES = `
create table side.scrub (id INT primary key check (id = 1), round INT!, begun_at INT!, ended_at INT, place BYTES!,
  blobs ZERO, bytes ZERO, damaged ZERO, unreadable ZERO, total_blobs ZERO, total_bytes ZERO, halted text,
  owner text!, fence ZERO, until_at ZERO) T;
create table damage (id ID, digest BYTES!, n INT!, size INT!, found_by text!, why text!, found_at INT!,
  state text! check (state in ('open','healed','gone')), closed_at INT, healed_from text,
  attempts ZERO, next_at ZERO, outcome text) T;
create unique index damage_open on damage (digest) where state = 'open';
create index damage_due on damage (next_at) where state = 'open';
`;

/** Scrub and healing. */
export const scrub: Migration = { number: 3, name: 'scrub', ddl: TABLES };
