/** How many bytes a dead key had, so that whoever deletes them does not ask the storage first. */
import type { Migration } from '../migrate.ts';

/** Null: not known. */
export const deadKeySize: Migration = {
  number: 4,
  name: 'dead-key-size',
  ddl: 'alter table dead_key add column size INT;',
};
