/** What a rebuild found and could not do, counted while it runs. */
import type { RepositoryName } from '../oci/names.ts';

/** Problems that are kept for the summary; all are counted, and each is told as it is met. */
const KEPT = 1_000;

/** Something that is not as it should be. `lost`: it could not be saved; else the rest makes up for it. */
export interface Problem {
  readonly what: string;
  readonly lost: boolean;
  readonly repository?: RepositoryName;
}

/** How far a rebuild is, or what it did. Sizes are bytes. */
export interface ReindexReport {
  /** Whether it went on where an earlier one was broken off; then the counts are of this run. */
  resumed: boolean;
  /** Keys found in storage, and how much was read of them. */
  keys: number;
  bytes: number;
  /** Keys with other bytes than their name says; keys that storage does not give; keys that are dead. */
  wrong: number;
  unreadable: number;
  dead: number;
  repositories: number;
  manifests: number;
  tags: number;
  /** Problems in all, and those of them that mean a loss. */
  problems: number;
  lost: number;
  /** The first of them. */
  readonly listed: Problem[];
}

/** A report with nothing in it. */
export function emptyReport(): ReindexReport {
  return {
    ...{ resumed: false, keys: 0, bytes: 0, wrong: 0, unreadable: 0, dead: 0 },
    ...{ repositories: 0, manifests: 0, tags: 0, problems: 0, lost: 0, listed: [] },
  };
}

/** Puts a problem into the report. */
export function note(report: ReindexReport, problem: Problem): void {
  report.problems++;
  if (problem.lost) report.lost++;
  if (report.listed.length < KEPT) report.listed.push(problem);
}
