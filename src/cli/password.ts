/** Reads a password: from a terminal without showing it, else the first line of standard input. Never an argument. */
import { readBounded } from '../kit/read-bounded.ts';
import { UsageError } from './command-line.ts';

const LIMIT = 4_096;

/** Asks (twice, where `again`) or reads. UsageError where there is none, or the two differ. */
export async function readPassword(again: boolean): Promise<string> {
  const { stdin } = process;
  if (!stdin.isTTY) {
    const bytes = await readBounded(stdin, LIMIT);
    const line = bytes?.toString('utf8').split(/\r?\n/, 1)[0] ?? '';
    if (line === '') throw new UsageError('Give the password on standard input, as in: longshore user add NAME < FILE');
    return line;
  }
  const first = await ask('Password: ');
  if (again && (await ask('Once more: ')) !== first) throw new UsageError('The two passwords differ.');
  return first;
}

/** One line from the terminal without echo. */
function ask(prompt: string): Promise<string> {
  const { stdin, stderr } = process;
  stderr.write(prompt);
  stdin.setRawMode(true);
  stdin.resume();
  return new Promise((resolve, reject) => {
    let typed = '';
    const end = (settle: () => void): void => {
      stdin.off('data', onData);
      stdin.setRawMode(false);
      stdin.pause();
      stderr.write('\n');
      settle();
    };
    const onData = (chunk: Buffer): void => {
      for (const character of chunk.toString('utf8')) {
        const done = character === '\r' || character === '\n';
        if (done || character === '\u0003' || character === '\u0004') {
          end(done ? () => resolve(typed) : () => reject(new UsageError('Nothing was changed.')));
          return;
        }
        if (character === '\u007f' || character === '\b') typed = [...typed].slice(0, -1).join('');
        else if (typed.length < LIMIT) typed += character;
      }
    };
    stdin.on('data', onData);
  });
}
