/** How long to wait before trying again. */

/** Milliseconds before attempt number `attempt` (1 is the first retry): doubles from `first` up to `most`, ± 25 %. */
export function backoff(attempt: number, first = 500, most = 300_000): number {
  const base = Math.min(most, first * 2 ** Math.min(attempt - 1, 30));
  return Math.round(base * (0.75 + Math.random() * 0.5));
}
