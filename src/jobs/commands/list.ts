/** The commands of this room, for the writer's list. */
import type { CommandList } from '../../database/database.ts';
import { jobClaim } from './job-claim.ts';
import { jobEnqueue } from './job-enqueue.ts';
import { jobFinish } from './job-finish.ts';
import { jobProgress, jobRenew } from './job-lease.ts';
import { jobSchedule } from './job-schedule.ts';
import { jobShift } from './job-shift.ts';
import { outboxDispatch } from './outbox-dispatch.ts';

/** All of them. */
export const JOB_COMMANDS: CommandList = [
  jobClaim,
  jobEnqueue,
  jobFinish,
  jobProgress,
  jobRenew,
  jobSchedule,
  jobShift,
  outboxDispatch,
];
