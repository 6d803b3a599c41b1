/** Requests that clients of one process send to another one, as behind a balancer: where it dies first, they have no answer. */
import { RegistryError } from '../../src/oci/error.ts';
import type { Choices } from '../support/random.ts';
import type { Process } from './scheduler.ts';

/** Sends requests to any of the processes that are there. */
export class Elsewhere<Instance extends { readonly process: Process }> {
  readonly #instances: readonly Instance[];
  readonly #waiting = new Map<Process, Set<() => void>>();

  constructor(instances: readonly Instance[]) {
    this.#instances = instances;
  }

  /** Does the work at one of them, more often than not another one than the client's own. */
  async ask<T>(from: Choices, own: Instance, work: (instance: Instance) => Promise<T>): Promise<T> {
    const chosen = from.chance(60) ? (from.pick(this.#instances) ?? own) : own;
    if (chosen.process === own.process) return work(own);
    return new Promise<T>((resolve, reject) => {
      const waiting = this.#waiting.get(chosen.process) ?? new Set();
      this.#waiting.set(chosen.process, waiting);
      const gone = (): void => reject(new RegistryError('UNAVAILABLE', 'the process died'));
      waiting.add(gone);
      void work(chosen)
        .then(resolve, reject)
        .finally(() => waiting.delete(gone));
    });
  }

  /** Who waits for this process learns that it died. */
  died(process: Process): void {
    for (const gone of this.#waiting.get(process) ?? []) gone();
    this.#waiting.delete(process);
  }
}
