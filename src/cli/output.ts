/** How the command line says things: lines for people, JSON for programs. */
import type { Given } from './command-line.ts';

/** A line on standard output. Gives the exit code of a command that went well. */
export function say(line: string): number {
  process.stdout.write(`${line}\n`);
  return 0;
}

/** With `--json`, says it so; whether it did. */
export function json(given: Given, value: unknown): boolean {
  if (given.flags.json === true) say(JSON.stringify(value, undefined, 2));
  return given.flags.json === true;
}

/** Bytes as people read them. */
export function size(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let [value, unit] = [bytes, 0];
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
