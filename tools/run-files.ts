/**
 * Runs test files by node's own runner, each in its own process, says briefly how each ended and counts its tests. A
 * file's own wrapper is no test; a file that crashes outside its tests is one failure.
 */
import { relative, resolve } from 'node:path';
import { run } from 'node:test';
import { inspect } from 'node:util';

/** What ran. `failures`: one line each; `empty`: files that registered nothing. */
export interface Totals {
  passed: number;
  failed: number;
  skipped: number;
  readonly failures: string[];
  empty?: string[];
}

/** The totals of some files, and of each by its name. */
export interface FileTotals extends Totals {
  readonly files: ReadonlyMap<string, FileTotal>;
}

/** One file: its tests, and how long its process ran. */
export interface FileTotal {
  passed: number;
  failed: number;
  skipped: number;
  milliseconds: number;
}

/** Adds `more` to `to`. */
export function addTotals(to: Totals, more: Totals): void {
  to.passed += more.passed;
  to.failed += more.failed;
  to.skipped += more.skipped;
  to.failures.push(...more.failures);
  to.empty = [...(to.empty ?? []), ...(more.empty ?? [])];
}

/** How to run them. `each`: every top-level test is named as it ends. */
export interface RunFilesOptions {
  readonly concurrency: number;
  readonly each: boolean;
  say(text: string): void;
}

/** What this file reads of an event of `node:test`. */
interface TestEvent {
  readonly name: string;
  readonly nesting: number;
  /** Where the test stands: perhaps in a contract that several files run. */
  readonly file?: string;
  /** The file that was run. */
  readonly entryFile?: string;
  readonly skip?: string | boolean;
  readonly todo?: string | boolean;
  readonly details: { readonly duration_ms: number; readonly type?: string; readonly error?: Error };
}

/** What node says of a file at its end. */
interface FileSummary {
  readonly file?: string;
  readonly duration_ms: number;
  readonly counts: {
    readonly passed: number;
    readonly failed: number;
    readonly cancelled: number;
    readonly skipped: number;
  };
}

/** Whether the event is of the wrapper that node puts around a file. */
const isFile = (event: TestEvent): boolean => event.file !== undefined && resolve(event.name) === event.file;

interface FileCount extends FileTotal {
  output: string;
}

const seconds = (event: TestEvent): string => `${(event.details.duration_ms / 1000).toFixed(1)} s`;

function explain(error: Error | undefined): string {
  const text = inspect(error?.cause ?? error, { depth: 4 });
  return text.length > 8_000 ? `${text.slice(0, 8_000)} …` : text;
}

/** Runs the files, which begin in the order given, and counts. */
export async function runFiles(files: readonly string[], options: RunFilesOptions): Promise<FileTotals> {
  const { say } = options;
  const byName = new Map<string, FileTotal>();
  const totals: FileTotals = { passed: 0, failed: 0, skipped: 0, failures: [], empty: [], files: byName };
  const counts = new Map<string, FileCount>();
  const countOf = (file: string | undefined): FileCount => {
    const key = file ?? '';
    const known = counts.get(key) ?? { passed: 0, failed: 0, skipped: 0, milliseconds: 0, output: '' };
    counts.set(key, known);
    return known;
  };

  /** Said when the file's process has ended. */
  const sayFile = ({ file, counts: own, duration_ms }: FileSummary): void => {
    const name = relative(process.cwd(), file ?? '');
    const failed = own.failed + own.cancelled;
    countOf(file).milliseconds = duration_ms;
    const also = `${failed > 0 ? `, ${failed} failed` : ''}${own.skipped > 0 ? `, ${own.skipped} skipped` : ''}`;
    say(`  ${failed > 0 ? '✖' : '✔'} ${name} (${own.passed} passed${also}, ${(duration_ms / 1000).toFixed(1)} s)`);
  };

  /** A file's process ended badly; that is a failure of its own only where none of its tests failed. */
  const brokenFiles = new Map<string, Error | undefined>();

  const testEnded = (event: TestEvent, passed: boolean): void => {
    if (isFile(event)) return;
    const entry = event.entryFile ?? event.file ?? '';
    const name = `${relative(process.cwd(), entry)}: ${event.name}`;
    const count = countOf(entry);
    // A suite fails because of what is in it, which is reported by itself, or in a hook, which is not.
    const inner = (event.details.error as { failureType?: string } | undefined)?.failureType === 'subtestsFailed';
    if (event.details.type === 'suite' && (passed || inner)) return;
    if (passed && (event.skip !== undefined || event.todo !== undefined)) count.skipped += 1;
    else if (passed) count.passed += 1;
    else {
      count.failed += 1;
      totals.failures.push(name);
      if (!inner) say(`    ✖ ${name}\n${explain(event.details.error).replaceAll(/^/gm, '      ')}`);
    }
    if (options.each && passed && event.nesting === 0) say(`    ✔ ${event.name} (${seconds(event)})`);
  };

  const stream = run({ files: [...files], isolation: 'process', concurrency: options.concurrency });
  for await (const { type, data } of stream) {
    if (type === 'test:pass') testEnded(data as TestEvent, true);
    else if (type === 'test:fail') testEnded(data as TestEvent, false);
    else if (type === 'test:complete') {
      const event = data as TestEvent & { readonly details: { readonly passed: boolean } };
      if (isFile(event) && !event.details.passed) brokenFiles.set(event.file ?? '', event.details.error);
    } else if (type === 'test:stderr' || type === 'test:stdout')
      countOf((data as { entryFile?: string }).entryFile ?? data.file).output += data.message;
    else if (type === 'test:diagnostic' && options.each && data.file !== undefined) say(`      ${data.message}`);
    else if (type === 'test:summary' && data.file !== undefined) sayFile(data as FileSummary);
  }

  for (const file of files.map((each) => resolve(each))) {
    const count = countOf(file);
    const name = relative(process.cwd(), file);
    if (brokenFiles.has(file) && count.failed === 0) {
      count.failed = 1;
      totals.failures.push(`${name}: ${explain(brokenFiles.get(file)).split('\n')[0]}`);
      say(`  ✖ ${name}: its process ended badly`);
    }
    if (count.failed > 0 && count.output !== '') {
      say(`  output of ${name}:\n${count.output.slice(-8_000).replaceAll(/^/gm, '    | ')}`);
    }
    byName.set(name, count);
    totals.passed += count.passed;
    totals.failed += count.failed;
    totals.skipped += count.skipped;
    if (count.passed + count.failed + count.skipped === 0) totals.empty?.push(name);
  }
  return totals;
}
