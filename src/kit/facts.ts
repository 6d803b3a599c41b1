/** Who did it and by which request: what travels from a call into events and history. */

/** Where a request came from. Strings are bounded by whoever makes them (256 bytes each). */
export interface Origin {
  readonly address: string;
  readonly host: string;
  readonly method: string;
  readonly userAgent?: string;
}

/** Who did it, by which request: an argument of every command that emits. A job's request has an id only. */
export interface Facts {
  readonly actor: string;
  readonly request: { readonly id: string } & Partial<Origin>;
}

/** A claim on work that others may take over. A commit under it checks `fence`. */
export interface Lease {
  readonly id: string;
  readonly fence: number;
}
