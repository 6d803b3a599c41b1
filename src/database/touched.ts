/** Who wants to know which repositories changed. */
import type { RepositoryName } from '../oci/names.ts';

/** A set of listeners, called in order and synchronously. */
export class Touched {
  readonly #listeners = new Set<(repositories: readonly RepositoryName[]) => void>();

  /** Returns the unsubscription. */
  readonly on = (listener: (repositories: readonly RepositoryName[]) => void): (() => void) => {
    const own = (repositories: readonly RepositoryName[]): void => listener(repositories);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  };

  /** Tells all of them. The names come from the database, where only parsed ones are. */
  readonly tell = (repositories: readonly string[]): void => {
    if (repositories.length === 0) return;
    for (const listener of this.#listeners) {
      try {
        listener(repositories as readonly RepositoryName[]);
      } catch (error) {
        // A cache that failed to forget would lie for ever: the process ends, once the batch has its answers.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  };
}
