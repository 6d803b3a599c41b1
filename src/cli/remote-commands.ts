/** The commands that speak to a server over the REST API, for `main.ts`. */
import type { Command, Flag } from './command-line.ts';
import { CONFIG_FLAGS } from './settings.ts';

const SERVER: Readonly<Record<string, Flag>> = {
  server: { value: 'URL', help: 'The server. Absent: the one that the configuration describes, on this machine.' },
  ...CONFIG_FLAGS,
  json: { help: 'As JSON.' },
};
const EXPECT: Flag = {
  value: 'DIGEST',
  help: 'Only if the tag is there now; "none": only if it does not exist.',
};

/** They take the credentials of LONGSHORE_USERNAME and LONGSHORE_PASSWORD, else those of `docker login`. */
export const REMOTE_COMMANDS: readonly Command[] = [
  {
    words: ['tag', 'history'],
    takes: ['REPOSITORY', 'TAG'],
    help: 'Lists every move of a tag, newest first: when, by whom, from where.',
    flags: SERVER,
    run: async (given) => (await import('./history.ts')).showTagHistory(given),
  },
  {
    words: ['tag', 'rollback'],
    takes: ['REPOSITORY', 'TAG'],
    help: 'Puts a tag back where it was, also on a manifest that was deleted.',
    flags: {
      to: { value: 'DIGEST', help: 'A digest that the tag had, or the sequence of an entry of its history.' },
      expect: EXPECT,
      ...SERVER,
    },
    run: async (given) => (await import('./history.ts')).rollBack(given),
  },
  {
    words: ['tag', 'undelete'],
    takes: ['REPOSITORY', 'TAG'],
    help: 'Brings back a deleted tag, and its manifest with it.',
    flags: { expect: EXPECT, ...SERVER },
    run: async (given) => (await import('./history.ts')).undeleteTag(given),
  },
  {
    words: ['deleted'],
    takes: ['REPOSITORY'],
    help: 'Lists the tags and manifests that were deleted and can still be brought back.',
    flags: SERVER,
    run: async (given) => (await import('./history.ts')).listDeleted(given),
  },
  {
    words: ['undelete'],
    takes: ['REPOSITORY', 'REFERENCE'],
    help: 'Brings back a deleted tag, or the manifest of a digest.',
    flags: { expect: EXPECT, ...SERVER },
    run: async (given) => (await import('./history.ts')).undelete(given),
  },
  {
    words: ['purge'],
    takes: ['REPOSITORY', 'REFERENCE'],
    help: 'Ends the time in which a deleted tag or manifest can be brought back.',
    flags: SERVER,
    run: async (given) => (await import('./history.ts')).purge(given),
  },
  {
    words: ['hold', 'add'],
    takes: ['REPOSITORY'],
    help: 'Protects a repository, or one tag or manifest of it, from deletion.',
    flags: {
      tag: { value: 'TAG', help: 'Only this tag, which then does not move either.' },
      digest: { value: 'DIGEST', help: 'Only this manifest.' },
      reason: { value: 'TEXT', help: 'Why; whoever is refused reads it. Needed.' },
      until: { value: 'TIME', help: 'When it ends by itself, as in 2027-01-31 or 2027-01-31T12:00:00Z.' },
      ...SERVER,
    },
    run: async (given) => (await import('./hold.ts')).addHold(given),
  },
  {
    words: ['hold', 'list'],
    help: 'Lists the holds that you may see.',
    flags: { repository: { value: 'NAME', help: 'Only of this repository.' }, ...SERVER },
    run: async (given) => (await import('./hold.ts')).listHolds(given),
  },
  {
    words: ['hold', 'remove'],
    takes: ['ID'],
    help: 'Lifts a hold.',
    flags: SERVER,
    run: async (given) => (await import('./hold.ts')).removeHold(given),
  },
];
