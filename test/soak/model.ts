/**
 * What one worker knows of a repository: what was acknowledged there, and what it may therefore ask for. A repository
 * of its own only this worker changes, so that what it knows is exact. In the shared repository it knows of its own
 * manifests and tags alone, and nobody deletes a blob there.
 */
import type { Piece } from '../support/images.ts';

/** A blob. */
export interface BlobFact {
  readonly piece: Piece;
  /** Until when the last acknowledgement holds (`performance.now()`). */
  until: number;
  /** Its deletion was acknowledged, and nothing since then. */
  deleted: boolean;
}

/** A manifest of any kind. */
export interface ManifestFact {
  readonly manifest: Piece;
  readonly blobs: readonly Piece[];
  readonly children: readonly string[];
  readonly subject?: string | undefined;
  there: boolean;
}

/** A repository as its worker knows it. */
export interface Place {
  readonly name: string;
  readonly shared: boolean;
  /** Of another worker, who may delete in it at any moment. */
  readonly others?: boolean;
  readonly blobs: Map<string, BlobFact>;
  readonly manifests: Map<string, ManifestFact>;
  /** Tags that are there, and what they name. */
  readonly tags: Map<string, string>;
}

/** An empty one. */
export function place(name: string, shared = false): Place {
  return { name, shared, blobs: new Map(), manifests: new Map(), tags: new Map() };
}

/** The manifests that are there. */
export function present(of: Place): ManifestFact[] {
  return [...of.manifests.values()].filter(({ there }) => there);
}

/** Whether a manifest that is there names the blob. */
export function isNeeded(of: Place, digest: string): boolean {
  return present(of).some(({ blobs }) => blobs.some((blob) => blob.digest === digest));
}

/** What an answer that came now has to be: there, gone, or either. */
export function blobMustBe(of: Place, digest: string): 'there' | 'gone' | 'either' {
  if (isNeeded(of, digest)) return 'there';
  const fact = of.blobs.get(digest);
  if (fact === undefined) return 'either';
  if (fact.deleted) return 'gone';
  return performance.now() < fact.until ? 'there' : 'either';
}

/** The blob was acknowledged by an answer to what was sent at `sent`; it holds for so many milliseconds. */
export function acknowledge(of: Place, piece: Piece, sent: number, holds: number): void {
  const fact = of.blobs.get(piece.digest);
  if (fact === undefined) of.blobs.set(piece.digest, { piece, until: sent + holds, deleted: false });
  else {
    fact.until = Math.max(fact.until, sent + holds);
    fact.deleted = false;
  }
}

/** The manifests that may be deleted: those that no index names. */
export function deletable(of: Place): ManifestFact[] {
  const all = present(of);
  const children = new Set(all.flatMap((one) => one.children));
  return all.filter(({ manifest }) => !children.has(manifest.digest));
}

/** The manifest is deleted, with its tags; gives these. */
export function bury(of: Place, fact: ManifestFact): string[] {
  fact.there = false;
  const tags = [...of.tags].filter(([, digest]) => digest === fact.manifest.digest).map(([tag]) => tag);
  for (const tag of tags) of.tags.delete(tag);
  return tags;
}
