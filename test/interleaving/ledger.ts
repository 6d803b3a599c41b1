/**
 * What clients were told, and what follows from it: after a 200 or 201 for a blob a push that names it is good for half
 * a grace (I2); an acknowledged manifest stays until somebody deletes it (I1); a deleted one answers 404 at once (I7).
 * Where two calls about one thing overlap, nothing is concluded from either.
 */
import type { Process } from './scheduler.ts';

/** One thing that calls are about. `what`: `blob:`, `manifest:` or `tag:` and its name; `*`: the whole repository. */
export interface About {
  readonly repository: string;
  readonly what: string;
}

/** A call under way. */
export interface Operation extends About {
  readonly kind: 'make' | 'take';
  readonly process: Process;
  readonly begun: number;
  readonly tick: number;
  disturbed: boolean;
}

function touches(one: About, other: About): boolean {
  if (one.repository !== other.repository) return false;
  if (one.what === '*' || other.what === '*' || one.what === other.what) return true;
  // A tag moves with its manifest.
  return one.what.startsWith('tag:') !== other.what.startsWith('tag:') && !`${one.what}${other.what}`.includes('blob:');
}

/** Two that make the same thing both leave it there; where tags end up is for the later one to say. */
function agree(one: Operation, other: Operation): boolean {
  if (one.kind !== 'make' || other.kind !== 'make' || one.what === '*' || other.what === '*') return false;
  return !one.what.startsWith('tag:') || !other.what.startsWith('tag:');
}

/** Keeps account. */
export class Ledger {
  readonly #running = new Set<Operation>();
  #count = 0;
  /** Until which tick a blob is promised, by `repository blob:digest`. */
  readonly promises = new Map<string, About & { until: number }>();
  /** Manifests that are there for sure, or are gone for sure. */
  readonly manifests = new Map<string, About & { there: boolean }>();

  begin(process: Process, kind: Operation['kind'], about: About, tick: number): Operation {
    const operation: Operation = { ...about, kind, process, begun: this.#count++, tick, disturbed: false };
    for (const other of this.#running) {
      if (!touches(other, operation) || agree(other, operation)) continue;
      other.disturbed = true;
      operation.disturbed = true;
    }
    this.#running.add(operation);
    if (kind === 'take') this.#forget(about);
    else this.#doubt(about);
    return operation;
  }

  /** The call ended, well or not; whether its answer says for sure how things are. */
  end(operation: Operation): boolean {
    this.#running.delete(operation);
    return !operation.disturbed;
  }

  /** A call that ended without an answer may have happened. */
  lost(process: Process): void {
    for (const operation of [...this.#running]) {
      if (operation.process !== process) continue;
      this.#running.delete(operation);
      if (operation.kind === 'take') this.#forget(operation);
      else this.#doubt(operation);
    }
  }

  promise(operation: Operation, until: number): void {
    const key = `${operation.repository} ${operation.what}`;
    const before = this.promises.get(key)?.until ?? 0;
    this.promises.set(key, { repository: operation.repository, what: operation.what, until: Math.max(before, until) });
  }

  know(operation: Operation, there: boolean): void {
    const { repository, what } = operation;
    this.manifests.set(`${repository} ${what}`, { repository, what, there });
  }

  /** Manifests of which clients know something for sure. */
  known(): readonly About[] {
    return [...this.manifests.values()];
  }

  #forget(about: About): void {
    for (const map of [this.promises, this.manifests])
      for (const [key, known] of map) if (touches(known, about)) map.delete(key);
  }

  /** What was gone may come. */
  #doubt(about: About): void {
    if (about.what.startsWith('tag:')) return;
    for (const [key, known] of this.manifests) if (!known.there && touches(known, about)) this.manifests.delete(key);
  }
}
