/** The command line: finds the command and runs it. What a command needs is loaded with it. */
import { VERSION } from '../version.ts';
import { type Command, helpOf, parseCommandLine, UsageError } from './command-line.ts';
import { REMOTE_COMMANDS } from './remote-commands.ts';
import { CONFIG_FLAGS } from './settings.ts';

const BACKUP_PLACE =
  'A folder, s3://BUCKET/PREFIX?endpoint=…&region=…&pathStyle=true, gs://BUCKET/PREFIX or azblob://CONTAINER/PREFIX?account=….';

const COMMANDS: readonly Command[] = [
  {
    words: ['serve'],
    help: 'Serves the registry until it is told to stop.',
    flags: {
      listen: { value: 'HOST:PORT', help: 'Where to serve. Absent: as configured, else 127.0.0.1:5000.' },
      ...CONFIG_FLAGS,
    },
    run: async (given) => (await import('./serve.ts')).serve(given),
  },
  {
    words: ['user', 'add'],
    takes: ['NAME'],
    help: 'Adds a user. The password is asked for, or read from standard input.',
    flags: CONFIG_FLAGS,
    run: async (given) => (await import('./user.ts')).addUser(given),
  },
  {
    words: ['user', 'passwd'],
    takes: ['NAME'],
    help: 'Sets a user’s password and ends every session.',
    flags: CONFIG_FLAGS,
    run: async (given) => (await import('./user.ts')).changePassword(given),
  },
  {
    words: ['user', 'disable'],
    takes: ['NAME'],
    help: 'Lets a user in no more and ends every session.',
    flags: CONFIG_FLAGS,
    run: async (given) => (await import('./user.ts')).switchUser(given, true),
  },
  {
    words: ['user', 'enable'],
    takes: ['NAME'],
    help: 'Lets a disabled user in again.',
    flags: CONFIG_FLAGS,
    run: async (given) => (await import('./user.ts')).switchUser(given, false),
  },
  {
    words: ['user', 'list'],
    help: 'Lists the users.',
    flags: { ...CONFIG_FLAGS, json: { help: 'As JSON.' } },
    run: async (given) => (await import('./user.ts')).listUsers(given),
  },
  {
    words: ['gc', 'status'],
    help: 'Says what waits for the garbage collector and what would go now.',
    flags: { ...CONFIG_FLAGS, json: { help: 'As JSON.' } },
    run: async (given) => (await import('./gc.ts')).gcStatus(given),
  },
  {
    words: ['gc', 'run'],
    help: 'Collects what is due, now.',
    flags: {
      ...CONFIG_FLAGS,
      force: { help: 'Though more would go than gc.haltPercent allows.' },
      'dry-run': { help: 'Only lists what would go.' },
      json: { help: 'As JSON.' },
    },
    run: async (given) => (await import('./gc.ts')).gcRun(given),
  },
  {
    words: ['gc', 'explain'],
    takes: ['DIGEST'],
    help: 'Says why a blob or manifest is kept.',
    flags: { ...CONFIG_FLAGS, json: { help: 'As JSON.' } },
    run: async (given) => (await import('./gc.ts')).gcExplain(given),
  },
  {
    words: ['reindex'],
    help: 'Rebuilds an empty database from storage alone; the server must not run.',
    flags: {
      ...CONFIG_FLAGS,
      'no-verify': { help: 'Reads manifests only: the bytes of other blobs are believed to be right.' },
      force: { help: 'Goes on though most of what is read is wrong.' },
      json: { help: 'The summary as JSON.' },
    },
    run: async (given) => (await import('./reindex.ts')).runReindexCommand(given),
  },
  {
    words: ['drain'],
    help: 'Brings to storage now what only the database has, so that reindex recovers everything.',
    flags: { ...CONFIG_FLAGS, json: { help: 'The summary as JSON.' } },
    run: async (given) => (await import('./drain.ts')).runDrainCommand(given),
  },
  {
    words: ['backup'],
    help: 'Makes a backup, while the server runs or not: the database, and the blobs that the place does not have yet.',
    flags: {
      to: { value: 'PLACE', help: BACKUP_PLACE },
      ...CONFIG_FLAGS,
      json: { help: 'The result as JSON.' },
    },
    run: async (given) => (await import('./backup.ts')).makeBackup(given),
  },
  {
    words: ['backup', 'list'],
    help: 'Lists the backups in a place.',
    flags: { to: { value: 'PLACE', help: BACKUP_PLACE }, ...CONFIG_FLAGS, json: { help: 'As JSON.' } },
    run: async (given) => (await import('./backup.ts')).listBackups(given),
  },
  {
    words: ['backup', 'verify'],
    takes: ['ID?'],
    help: 'Hashes everything in a place for backups, or what one backup needs.',
    flags: { to: { value: 'PLACE', help: BACKUP_PLACE }, ...CONFIG_FLAGS, json: { help: 'As JSON.' } },
    run: async (given) => (await import('./backup.ts')).verifyBackups(given),
  },
  {
    words: ['backup', 'prune'],
    help: 'Removes old backups, and the blobs that no other one needs.',
    flags: {
      to: { value: 'PLACE', help: BACKUP_PLACE },
      keep: { value: 'N', help: 'How many complete backups stay, the newest.' },
      ...CONFIG_FLAGS,
      json: { help: 'As JSON.' },
    },
    run: async (given) => (await import('./backup.ts')).pruneBackups(given),
  },
  {
    words: ['restore'],
    help: 'Restores a backup, whatever is in database and storage; no server may run on them.',
    flags: {
      from: { value: 'PLACE', help: BACKUP_PLACE },
      point: { value: 'ID', help: 'Which backup. Absent: the newest complete one.' },
      before: { value: 'TIME', help: 'The newest complete backup of that time or before, as 2026-01-31T12:00:00Z.' },
      ...CONFIG_FLAGS,
      json: { help: 'The result as JSON.' },
    },
    run: async (given) => (await import('./restore.ts')).restoreBackup(given),
  },
  {
    words: ['recover'],
    help: 'Makes a database that was put back to an older state (a snapshot, PITR, a copied file) fit for its storage, which went on; no server may run on them.',
    flags: {
      'no-merge': { help: 'Does not bring back what the storage knows of pushes and tags since.' },
      ...CONFIG_FLAGS,
      json: { help: 'The result as JSON.' },
    },
    run: async (given) => (await import('./recover.ts')).runRecover(given),
  },
  ...REMOTE_COMMANDS,
  {
    words: ['scrub', 'status'],
    help: 'Says how far the scrub is and what is damaged.',
    flags: { ...CONFIG_FLAGS, json: { help: 'As JSON.' } },
    run: async (given) => (await import('./scrub.ts')).showScrub(given),
  },
  {
    words: ['scrub', 'run'],
    help: 'Reads and hashes all stored bytes, now, and heals what it can.',
    flags: {
      ...CONFIG_FLAGS,
      'full-speed': { help: 'Without the limit of scrub.rate.' },
      force: { help: 'Though everything seems to be missing.' },
      json: { help: 'As JSON.' },
    },
    run: async (given) => (await import('./scrub.ts')).runScrub(given),
  },
  {
    words: ['scrub', 'damaged'],
    help: 'Lists the blobs that are damaged.',
    flags: {
      ...CONFIG_FLAGS,
      all: { help: 'Also those that were healed or are gone.' },
      limit: { value: 'NUMBER', help: 'At most so many; 1000 if absent.' },
      json: { help: 'As JSON.' },
    },
    run: async (given) => (await import('./scrub.ts')).listScrubDamaged(given),
  },
  {
    words: ['migrate'],
    help: 'Moves an installation’s database between SQLite and PostgreSQL. Storage stays where it is.',
    flags: {
      from: { value: 'URL', help: 'sqlite://FOLDER or postgres://… Absent: the data folder.' },
      to: { value: 'URL', help: 'postgres://… or sqlite://FOLDER. Absent: database.url.' },
      ...CONFIG_FLAGS,
    },
    run: async (given) => (await import('./migrate.ts')).migrateDatabase(given),
  },
  {
    words: ['config', 'check'],
    help: 'Says whether file and environment make a configuration, and what is wrong if not.',
    flags: CONFIG_FLAGS,
    run: async (given) => (await import('./config.ts')).checkConfig(given),
  },
  {
    words: ['config', 'show'],
    help: 'Prints the configuration in force, secrets masked.',
    flags: CONFIG_FLAGS,
    run: async (given) => (await import('./config.ts')).showConfig(given),
  },
  {
    words: ['config', 'schema'],
    help: 'Prints the JSON schema of the configuration.',
    flags: {},
    run: async () => (await import('./config.ts')).printSchema(),
  },
  {
    words: ['health'],
    help: 'Says whether the server of this configuration is ready; for health commands of containers.',
    flags: { ...CONFIG_FLAGS, live: { help: 'Only whether it answers.' } },
    run: async (given) => (await import('./health.ts')).showHealth(given),
  },
  {
    words: ['version'],
    help: 'Prints the version.',
    flags: {},
    run: async () => {
      process.stdout.write(`${VERSION}\n`);
      return 0;
    },
  },
];

/** Runs the command that the arguments name. Gives the exit code: 0 well, 1 failed, 2 used wrongly. */
export async function main(args: readonly string[]): Promise<number> {
  if (args[0] === '--version' || args[0] === '-v') {
    process.stdout.write(`${VERSION}\n`);
    return 0;
  }
  if (args.length === 0 || args.includes('--help') || args.includes('-h') || args[0] === 'help') {
    const named = COMMANDS.filter((command) => command.words.every((word, index) => args[index] === word));
    const shown = named.length > 0 ? named : COMMANDS;
    process.stdout.write(`Longshore ${VERSION}, a container registry.\n\n${helpOf(shown)}\n`);
    return args.length === 0 ? 2 : 0;
  }
  try {
    const { command, given } = parseCommandLine(args, COMMANDS);
    return await command.run(given);
  } catch (error) {
    const { name, message, stack } = error as Error;
    const known =
      error instanceof UsageError ||
      name === 'ConfigError' ||
      'status' in (error as object) ||
      'cause' in (error as object) ||
      name === 'AdminError';
    process.stderr.write(`longshore: ${known ? message : (stack ?? message)}\n`);
    return error instanceof UsageError || name === 'ConfigError' ? 2 : 1;
  }
}
