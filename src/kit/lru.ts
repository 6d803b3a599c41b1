/** A map that forgets what was used longest ago. Bounded by count and, if asked, by weight. */

/** Least-recently-used map. `get` counts as use. All operations are O(1). */
export class Lru<K, V> {
  readonly #entries = new Map<K, V>();
  readonly #limits: { readonly count: number; readonly weight: number };
  readonly #weigh: (value: V) => number;
  #weight = 0;

  /** `count`: most entries. `weight` with `weigh`: most bytes (or whatever `weigh` says) of all entries together. */
  constructor(limits: { count: number; weight?: number }, weigh: (value: V) => number = () => 0) {
    this.#limits = { count: limits.count, weight: limits.weight ?? Number.POSITIVE_INFINITY };
    this.#weigh = weigh;
  }

  /** The value, made the most recently used; undefined where there is none. */
  get(key: K): V | undefined {
    const value = this.#entries.get(key);
    if (value === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, value);
    return value;
  }

  /** The value without counting as use. */
  peek(key: K): V | undefined {
    return this.#entries.get(key);
  }

  /** Sets, and forgets the least recently used until the limits hold. A value heavier than the limit is not kept. */
  set(key: K, value: V): void {
    this.delete(key);
    const weight = this.#weigh(value);
    if (weight > this.#limits.weight) return;
    this.#entries.set(key, value);
    this.#weight += weight;
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#limits.count && this.#weight <= this.#limits.weight) break;
      this.delete(oldest);
    }
  }

  /** Forgets one; whether it was there. */
  delete(key: K): boolean {
    const value = this.#entries.get(key);
    if (value === undefined) return false;
    this.#weight -= this.#weigh(value);
    return this.#entries.delete(key);
  }

  /** Forgets everything. */
  clear(): void {
    this.#entries.clear();
    this.#weight = 0;
  }

  /** How many entries there are. */
  get size(): number {
    return this.#entries.size;
  }
}
