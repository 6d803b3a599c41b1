/** The rebuild's commands. */
import type { CommandList } from '../../database/database.ts';
import { reindexFreshKey, reindexJournal, reindexKeys, reindexRescued, reindexSizes } from './reindex-keys.ts';
import { reindexManifests, reindexRepository, reindexTags, reindexUsage } from './reindex-rows.ts';
import { reindexBegin, reindexEnd, reindexShard } from './reindex-state.ts';

/** All of them. */
export const REINDEX_COMMANDS: CommandList = [
  reindexBegin,
  reindexShard,
  reindexEnd,
  reindexJournal,
  reindexKeys,
  reindexFreshKey,
  reindexRescued,
  reindexSizes,
  reindexRepository,
  reindexManifests,
  reindexTags,
  reindexUsage,
];
