/** Every command of the collector, for `commands.ts`. No logic. */
import type { CommandList } from '../../database/database.ts';
import { gcConfirm, gcTake } from './gc-bytes.ts';
import { gcPurge } from './gc-purge.ts';
import { repositoryReview } from './gc-repository.ts';
import { gcReview } from './gc-review.ts';
import { sweepEnd, sweepNext, sweepSeen } from './gc-sweep.ts';
import { uploadLeftovers, uploadLeftoversDue } from './upload-leftovers.ts';

/** The collector's commands. */
export const GC_COMMANDS: CommandList = [
  gcConfirm,
  gcPurge,
  gcReview,
  gcTake,
  repositoryReview,
  sweepEnd,
  sweepNext,
  sweepSeen,
  uploadLeftovers,
  uploadLeftoversDue,
];
