/** Every change of the schema there ever was, in order. Appended to, never edited: databases out there have run them. */
import type { Migration } from './database/migrate.ts';
import { core } from './database/migrations/0001-core.ts';
import { tagHistory } from './database/migrations/0002-tag-history.ts';
import { scrub } from './database/migrations/0003-scrub.ts';
import { deadKeySize } from './database/migrations/0004-dead-key-size.ts';

/** The numbered list. */
export const MIGRATIONS: readonly Migration[] = [core, tagHistory, scrub, deadKeySize];
