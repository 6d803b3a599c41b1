/** The history of a whole repository in the order of its sequence: one more index. */
import type { Migration } from '../migrate.ts';

/** The index. */
export const tagHistory: Migration = {
  number: 2,
  name: 'tag-history',
  ddl: `create index tag_event_repository on tag_event (repository_id, id);
create index hold_tag on hold (repository_id, tag) where tag is not null;`,
};
