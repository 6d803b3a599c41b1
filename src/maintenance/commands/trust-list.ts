/** Every command of scrub and healing, for `commands.ts`. No logic. */
import type { CommandList } from '../../database/database.ts';
import { inlineDamaged } from './damage-inline.ts';
import { healClaim, healFailed, healInline, healRevive, healStored } from './heal-blob.ts';
import { scrubAdvance, scrubBegin, scrubClaim } from './scrub-place.ts';

/** The commands of scrub and healing. */
export const TRUST_COMMANDS: CommandList = [
  healClaim,
  healFailed,
  healInline,
  healRevive,
  healStored,
  inlineDamaged,
  scrubAdvance,
  scrubBegin,
  scrubClaim,
];
