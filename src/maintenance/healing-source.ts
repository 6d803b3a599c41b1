/**
 * Where the bytes of a damaged blob may still be had: another storage, or a registry that has the same images. A source
 * is believed in nothing: what it gives is hashed before anything is made of it.
 */
import type { Digest, RepositoryName } from '../oci/names.ts';

/** A place that is asked for a damaged blob. Sources are asked in the order they are configured in. */
export interface HealingSource {
  /** What reports call it, as in `storage fs` or `registry registry.example.org`. Never a secret. */
  readonly name: string;
  /**
   * The blob's bytes, or undefined where this place has not got them. `size`: how many bytes are expected; undefined
   * where that is not known. More than `size` are never read on. `repositories`: where it is linked here (at most 20,
   * may be none); a registry looks in those of the same name. Manifests are asked for too: `manifest` says what type.
   * Rejects with anything where it cannot be asked; the next source is asked, and this one again later. Stops when
   * the signal aborts. Each chunk is valid only until the next one is asked for; whoever reads ends the iteration, so
   * that the place can let go of what it opened. Never fetches the `urls` of foreign layers.
   */
  open(
    digest: Digest,
    size: number | undefined,
    repositories: readonly RepositoryName[],
    options: HealingOptions,
  ): Promise<AsyncIterable<Uint8Array> | undefined>;
  /** Lets go of what it holds open. */
  close?(): Promise<void>;
}

/** How a source is asked. */
export interface HealingOptions {
  readonly signal: AbortSignal;
  /** The blob is a manifest here, of this media type. */
  readonly manifest?: string;
}
