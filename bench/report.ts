/** Tables: the figures beside their goals, and every round. */
import { median } from './stats.ts';
import type { Figure, Goal, Measured, PeerName } from './types.ts';

/** What the tables are made of. */
export interface Results {
  readonly at: string;
  /** Sentences on how it was measured. */
  readonly notes: readonly string[];
  readonly measured: readonly Measured[];
}

/** One line of the table of figures. */
export interface Line {
  readonly row: string;
  readonly figure: string;
  readonly unit: string;
  readonly values: Readonly<Partial<Record<PeerName, number>>>;
  /** Longshore's median divided by Distribution's. */
  readonly ratio: number | undefined;
  readonly goals: readonly string[];
  /** Undefined: no goal, or nothing to compare with. */
  readonly met: boolean | undefined;
}

const ORDER: readonly PeerName[] = ['longshore', 'distribution', 'longshore2', 'zot', 'olareg', 'bare', 'machine'];
const TITLE: Readonly<Record<PeerName, string>> = {
  longshore: 'Longshore',
  longshore2: 'two of Longshore',
  distribution: 'Distribution',
  zot: 'zot',
  olareg: 'olareg',
  bare: 'bare node:http',
  machine: 'machine',
};

/** Three digits that matter. */
export function shown(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString('en');
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

function goalText(goal: Goal, figure: Figure): string {
  if ('atLeast' in goal) return `≥ ${shown(goal.atLeast)}`;
  if ('atMost' in goal) return `≤ ${shown(goal.atMost)}`;
  return `${figure.better === 'more' ? '≥' : '≤'} ${goal.times} × ${TITLE[goal.of]}`;
}

function isMet(goal: Goal, figure: Figure, values: Line['values']): boolean | undefined {
  const own = values.longshore;
  if (own === undefined || Number.isNaN(own)) return undefined;
  if ('atLeast' in goal) return own >= goal.atLeast;
  if ('atMost' in goal) return own <= goal.atMost;
  const other = values[goal.of];
  if (other === undefined || Number.isNaN(other)) return undefined;
  return figure.better === 'more' ? own >= goal.times * other : own <= goal.times * other;
}

/** Medians by figure, in the order in which rows were measured. */
export function linesOf(measured: readonly Measured[]): Line[] {
  const rows = [...new Set(measured.map(({ row }) => row))];
  return rows.flatMap((row) =>
    row.figures.map((figure): Line => {
      const values: Partial<Record<PeerName, number>> = {};
      for (const one of measured) {
        if (one.row === row && one.rounds.length > 0) {
          values[one.peer] = median(one.rounds.map((round) => round[figure.key] ?? Number.NaN));
        }
      }
      const { longshore, distribution } = values;
      const goals = figure.goals ?? [];
      const answers = goals.map((goal) => isMet(goal, figure, values));
      return {
        row: row.title,
        figure: figure.title,
        unit: figure.unit,
        values,
        ratio: longshore === undefined || !distribution ? undefined : longshore / distribution,
        goals: goals.map((goal) => goalText(goal, figure)),
        met: answers.includes(false) ? false : answers.length === 0 || answers.includes(undefined) ? undefined : true,
      };
    }),
  );
}

function table(head: readonly string[], body: readonly (readonly string[])[]): string {
  const widths = head.map((text, index) => Math.max(text.length, ...body.map((cells) => cells[index]!.length)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, index) => (index < 1 ? cell.padEnd(widths[index]!) : cell.padStart(widths[index]!))).join(' | ')} |`;
  const rule = `|${widths.map((width, index) => (index < 1 ? '-'.repeat(width + 2) : `${'-'.repeat(width + 1)}:`)).join('|')}|`;
  return [line(head), rule, ...body.map(line)].join('\n');
}

/** The whole report in Markdown. */
export function markdown({ at, notes, measured }: Results): string {
  const lines = linesOf(measured);
  const peers = ORDER.filter((peer) => lines.some((line) => line.values[peer] !== undefined));
  // The two that are compared stand in front of the ratio, the others at the end.
  const others = peers.filter((peer) => peer !== 'longshore' && peer !== 'distribution');
  const head = ['row', 'Longshore', 'Distribution', 'ratio', 'goal', 'met', ...others.map((peer) => TITLE[peer])];
  const body = lines.map((line) => [
    `${line.row}: ${line.figure}${line.unit === '' ? '' : ` [${line.unit}]`}`,
    shown(line.values.longshore),
    shown(line.values.distribution),
    shown(line.ratio),
    line.goals.join(', '),
    line.met === undefined ? '' : line.met ? 'yes' : 'NO',
    ...others.map((peer) => shown(line.values[peer])),
  ]);
  const rounds = measured.flatMap(({ row, peer, rounds: taken, errors }) => [
    ...(taken.length === 0 ? [] : row.figures).map((figure) => [
      `${row.id} ${figure.key} [${figure.unit}]`,
      TITLE[peer],
      taken.map((values) => shown(values[figure.key])).join('  '),
    ]),
    ...errors.map((error) => [row.id, TITLE[peer], `failed: ${error.replaceAll(/[|\n]/g, ' ')}`]),
  ]);
  const missed = lines.filter((line) => line.met === false).length;
  const met = lines.filter((line) => line.met === true).length;
  return [
    '# Benchmark: the last full run',
    `${at}. Medians of the rounds; ratio = Longshore ÷ Distribution.`,
    notes.map((note) => `- ${note}`).join('\n'),
    `Of ${met + missed} figures with goals ${met} meet them.`,
    table(head, body),
    '## Every round',
    table(['row', 'peer', 'rounds in order'], rounds),
    '',
  ].join('\n\n');
}
