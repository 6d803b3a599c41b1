/** What scrub and healing count. */
import type { Metrics } from '../kit/log.ts';

/** The measures, made once for both. */
export interface TrustMeasures {
  bytes(count: number): void;
  found(count: number): void;
  /** Blobs that are damaged now. */
  open(count: number): void;
  healed(count: number, from: { readonly from: string }): void;
}

/** `from`: the name of a configured source, `storage`, or `database`. */
export function trustMeasures(metrics: Metrics): TrustMeasures {
  return {
    bytes: metrics.counter('longshore_scrub_bytes_total', 'Bytes that the scrub has read and hashed.'),
    found: metrics.counter('longshore_scrub_damaged_total', 'Blobs that the scrub found damaged.'),
    open: metrics.gauge('longshore_damaged_blobs', 'Blobs that are damaged and not healed yet.'),
    healed: metrics.counter('longshore_healed_total', 'Blobs that were healed, by where their bytes were had from.'),
  };
}
