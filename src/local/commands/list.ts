/** Every command of the store, for `commands.ts`. No logic. */
import type { CommandList } from '../../database/database.ts';
import { blobDamaged, blobLink, blobMount, blobPut, blobReserve, blobTouch, blobUnlink } from './blob-commands.ts';
import { spillDone, tickForward, uploadKeyEnsure, usageFold } from './house-keeping.ts';
import { manifestDelete, manifestRestore, tagDelete, tagRestore } from './manifest-commands.ts';
import { manifestPush } from './manifest-push.ts';
import { tagPurge, tombstonePurge } from './purge.ts';
import { repositoryDelete } from './repository-delete.ts';
import { tagRollback } from './tag-rollback.ts';
import { uploadAdvance, uploadClaim, uploadClose, uploadExpire } from './upload-commands.ts';

/** The store's commands. */
export const LOCAL_COMMANDS: CommandList = [
  blobDamaged,
  blobLink,
  blobMount,
  blobPut,
  blobReserve,
  blobTouch,
  blobUnlink,
  manifestDelete,
  manifestPush,
  manifestRestore,
  tagDelete,
  tagPurge,
  tagRestore,
  tagRollback,
  tombstonePurge,
  repositoryDelete,
  spillDone,
  tickForward,
  uploadAdvance,
  uploadClaim,
  uploadClose,
  uploadExpire,
  uploadKeyEnsure,
  usageFold,
];
