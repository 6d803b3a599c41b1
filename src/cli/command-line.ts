/** Arguments: which command, its flags, its positionals. Mistakes are UsageErrors with a suggestion. */
import { parseArgs } from 'node:util';
import { nearest } from '../config/suggest.ts';

/** A mistake in the arguments; the message is for a person. */
export class UsageError extends Error {}

/** A flag. `value` names what follows it; without, it is a switch. */
export interface Flag {
  readonly value?: string;
  readonly help: string;
}

/** A command: words, positionals, flags, and what it does. Gives the exit code. */
export interface Command {
  readonly words: readonly string[];
  /** Names of positionals; one that ends in "?" may be left out. */
  readonly takes?: readonly string[];
  readonly help: string;
  readonly flags: Readonly<Record<string, Flag>>;
  run(given: Given): Promise<number>;
}

/** What was given. */
export interface Given {
  readonly positionals: readonly string[];
  readonly flags: Readonly<Record<string, string | true | undefined>>;
}

/** The command that the arguments name, and what is given to it. */
export function parseCommandLine(
  args: readonly string[],
  commands: readonly Command[],
): { command: Command; given: Given } {
  const command = commands
    .filter((one) => one.words.every((word, index) => args[index] === word))
    .sort((a, b) => b.words.length - a.words.length)[0];
  if (command === undefined) {
    const typed = args
      .slice(0, 2)
      .filter((word) => !word.startsWith('-'))
      .join(' ');
    const near = nearest(
      typed,
      commands.map((one) => one.words.join(' ')),
    );
    throw new UsageError(
      `There is no command "${typed}"${near === undefined ? '' : `; did you mean "${near}"?`} See longshore --help.`,
    );
  }
  const takes = command.takes ?? [];
  const options = Object.fromEntries(
    Object.entries(command.flags).map(([name, flag]) => [
      name,
      { type: flag.value === undefined ? ('boolean' as const) : ('string' as const) },
    ]),
  );
  let parsed: ReturnType<typeof parseArgs>;
  try {
    parsed = parseArgs({ args: args.slice(command.words.length), options, allowPositionals: true, strict: true });
  } catch (error) {
    const flag = /'--?([^'\s]+)/.exec((error as Error).message)?.[1];
    const known = Object.keys(command.flags);
    if ((error as { code?: string }).code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION' && flag !== undefined) {
      const near = nearest(flag, known);
      throw new UsageError(
        `longshore ${command.words.join(' ')} has no flag --${flag}${near === undefined ? '' : `; did you mean --${near}?`}`,
      );
    }
    throw new UsageError((error as Error).message.split('\n')[0]!);
  }
  const least = takes.filter((name) => !name.endsWith('?')).length;
  if (parsed.positionals.length < least || parsed.positionals.length > takes.length) {
    throw new UsageError(`Usage: ${usageOf(command)}`);
  }
  return { command, given: { positionals: parsed.positionals, flags: parsed.values as Given['flags'] } };
}

function positionalsOf({ takes = [] }: Command): readonly string[] {
  return takes.map((name) => (name.endsWith('?') ? `[${name.slice(0, -1)}]` : name));
}

/** A command's one-line usage. */
export function usageOf(command: Command): string {
  const flags = Object.entries(command.flags).map(
    ([name, flag]) => `[--${name}${flag.value === undefined ? '' : ` ${flag.value}`}]`,
  );
  return ['longshore', ...command.words, ...positionalsOf(command), ...flags].join(' ');
}

/** The help of all commands, or of one. */
export function helpOf(commands: readonly Command[]): string {
  return commands
    .map((command) => {
      const flags = Object.entries(command.flags).map(
        ([name, flag]) => `      --${name}${flag.value === undefined ? '' : ` ${flag.value}`}  ${flag.help}`,
      );
      const head = ['  longshore', ...command.words, ...positionalsOf(command)].join(' ');
      return [head, `      ${command.help}`, ...flags].join('\n');
    })
    .join('\n\n');
}
