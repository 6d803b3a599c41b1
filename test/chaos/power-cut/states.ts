/**
 * Which states of all the legal ones are looked at. Every cut gives the one of which nothing more was left, the one of
 * which everything was, all combinations where there are few, and else: each file, each name, each size and some pages
 * dropped alone and left alone, every prefix of the names in the order in which they were made (a file system with a
 * journal), sizes without bytes, and random parts with torn pages.
 */
import { join } from 'node:path';
import type { Choices } from '../../support/random.ts';
import { DiskModel, type Inode, type Left, type Unit } from './disk-model.ts';
import type { TraceEvent } from './trace.ts';

/** A moment at which the power goes. */
export interface Cut {
  /** How many events had happened. */
  readonly at: number;
  /** How many answers clients could have read. */
  readonly answers: number;
  readonly model: DiskModel;
}

/** Up to so many units every combination is looked at. */
const FEW = 4;

/**
 * A sync makes things sure, an answer promises them. What lies between two of these only adds to what may be left: the
 * states of a cut there are among those of the next.
 */
const BORDERS = new Set<TraceEvent['kind']>(['sync', 'answer']);

/** Plays the events and stops before each that matters, and at the end. The model goes on after each. */
export function* cutsOf(root: string, events: readonly TraceEvent[]): Generator<Cut> {
  const model = new DiskModel(root);
  let answers = 0;
  for (const [at, event] of events.entries()) {
    if (BORDERS.has(event.kind)) yield { at, answers, model };
    model.apply(event);
    if (event.kind === 'answer') answers += 1;
  }
  yield { at: events.length, answers, model };
}

/** A state with a name that says which it is at its cut. */
export interface Candidate {
  readonly name: string;
  readonly left: Left;
}

/** The two that are always looked at. */
export function outermost(units: readonly Unit[]): Candidate[] {
  return [
    { name: 'nothing more was left', left: { units: new Set() } },
    { name: 'everything was left', left: { units: new Set(units) } },
  ];
}

/** For a planted fault: nothing more, all but what the fault concerns, and names and sizes without bytes. `forgotten`: paths. */
export function around(units: readonly Unit[], root: string, forgotten: ReadonlySet<string>): Candidate[] {
  const named = ({ name }: Inode): boolean => forgotten.has(join(root, name));
  const concerned = (unit: Unit): boolean =>
    unit.kind === 'entry' ? unit.op.parts.some(({ folder }) => named(folder)) : named(unit.inode);
  if (!units.some(concerned)) return [];
  return [
    { name: 'nothing more was left', left: { units: new Set() } },
    { name: 'all but what was forgotten', left: { units: new Set(units.filter((unit) => !concerned(unit))) } },
    {
      name: 'names and sizes without bytes',
      left: { units: new Set(units.filter((unit) => unit.kind !== 'page')) },
    },
  ];
}

/** The others, `pages` of single pages and `randoms` of random ones at most, in the order of the choices. */
export function* others(
  units: readonly Unit[],
  random: Choices,
  limits: { readonly pages: number; readonly randoms: number },
): Generator<Candidate> {
  const only = (name: string, kept: Iterable<Unit>): Candidate => ({ name, left: { units: new Set(kept) } });
  if (units.length <= FEW) {
    for (let mask = 1; mask < 2 ** units.length - 1; mask++) {
      const kept = units.filter((_, bit) => (mask >> bit) & 1);
      yield only(`left: ${kept.map(({ what }) => what).join(', ')}`, kept);
    }
  } else {
    const makers: (() => Candidate)[] = [];
    const dropOrKeep = (what: string, is: (unit: Unit) => boolean): void => {
      makers.push(
        () =>
          only(
            `all but ${what}`,
            units.filter((unit) => !is(unit)),
          ),
        () => only(`nothing but ${what}`, units.filter(is)),
      );
    };
    const inodes = new Set<Inode>();
    for (const unit of units) if (unit.kind !== 'entry') inodes.add(unit.inode);
    for (const inode of inodes) dropOrKeep(inode.name, (unit) => unit.kind !== 'entry' && unit.inode === inode);
    for (const one of units) if (one.kind !== 'page') dropOrKeep(one.what, (unit) => unit === one);
    const pages = units.filter(({ kind }) => kind === 'page');
    for (let count = Math.min(limits.pages, pages.length); count > 0; count--) {
      const one = random.pick(pages)!;
      dropOrKeep(one.what, (unit) => unit === one);
    }
    makers.push(
      () =>
        only(
          'names and sizes without bytes',
          units.filter(({ kind }) => kind !== 'page'),
        ),
      () =>
        only(
          'names without files',
          units.filter(({ kind }) => kind === 'entry'),
        ),
      () =>
        only(
          'files without names',
          units.filter(({ kind }) => kind !== 'entry'),
        ),
    );
    const entries = units.filter(({ kind }) => kind === 'entry');
    for (let count = 1; count < entries.length; count++) {
      const first = new Set(entries.slice(0, count));
      makers.push(
        () =>
          only(
            `the first ${count} names and all files`,
            units.filter((unit) => unit.kind !== 'entry' || first.has(unit)),
          ),
        () => only(`the first ${count} names and no files`, first),
      );
    }
    // In an order of the seed, so that a run that ends early has seen some of everything.
    for (let left = makers.length; left > 0; left--) {
      const at = random.below(left);
      yield makers[at]!();
      makers[at] = makers[left - 1]!;
    }
  }
  if (units.length > 0) for (let count = 0; count < limits.randoms; count++) yield randomPart(units, random, count);
}

/** Some of the units, one in three of its pages torn. */
function randomPart(units: readonly Unit[], random: Choices, number: number): Candidate {
  const share = 5 + random.below(90);
  const kept = units.filter(() => random.chance(share));
  const torn = new Map<Unit, (sector: number) => boolean>();
  for (const unit of kept) {
    if (unit.kind !== 'page' || !random.chance(33)) continue;
    const mask = random.below(256);
    torn.set(unit, (sector) => ((mask >> (sector % 8)) & 1) === 1);
  }
  return { name: `random part ${number}`, left: { units: new Set(kept), torn } };
}
