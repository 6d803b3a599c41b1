/**
 * Manifests by repository and reference, so that a pull by tag asks no database. **Invariant**: an entry is never
 * older than the last commit that touched its repository. With the only writer in this process, a commit drops the
 * repository before its promise resolves; with several processes, an entry holds only while the database's data
 * version is the one it was read under.
 */
import type { RepositoryName } from '../oci/names.ts';
import type { ManifestContent } from '../registry/registry.ts';

interface Entry {
  readonly content: ManifestContent;
  readonly version: number | undefined;
}

/** What it may hold in all. */
const MAX_ENTRIES = 100_000;
const MAX_BYTES = 16 * 1024 * 1024;

/** References are the text of a tag or a digest (no tag has a colon). First in, first out. */
export class TagCache {
  readonly #repositories = new Map<RepositoryName, Map<string, Entry>>();
  #entries = 0;
  #bytes = 0;

  /** The manifest, where it is known to be current. */
  get(repository: RepositoryName, reference: string, version: number | undefined): ManifestContent | undefined {
    const entry = this.#repositories.get(repository)?.get(reference);
    return entry === undefined || entry.version !== version ? undefined : entry.content;
  }

  /**
   * Keeps what was just read under `version`, and gives what is kept: one content for all tags of a manifest. Must be
   * called in the same turn of the loop as the read.
   */
  set(
    repository: RepositoryName,
    reference: string,
    read: ManifestContent,
    version: number | undefined,
  ): ManifestContent {
    let references = this.#repositories.get(repository);
    if (references === undefined) this.#repositories.set(repository, (references = new Map()));
    const { digest } = read.descriptor;
    const known = references.get(digest);
    // The bytes of a digest never change, so they may be older than the version.
    const content = known?.content ?? read;
    if (known === undefined || known.version !== version) this.#put(references, digest, { content, version });
    if (reference !== digest) this.#put(references, reference, { content, version });
    while (this.#entries > MAX_ENTRIES || this.#bytes > MAX_BYTES) this.#evict();
    return content;
  }

  #put(references: Map<string, Entry>, reference: string, entry: Entry): void {
    this.#remove(references, reference);
    references.set(reference, entry);
    this.#entries++;
    this.#bytes += weightOf(reference, entry.content);
  }

  /** Forgets a repository. */
  drop(repository: RepositoryName): void {
    const references = this.#repositories.get(repository);
    if (references === undefined) return;
    for (const reference of references.keys()) this.#remove(references, reference);
    this.#repositories.delete(repository);
  }

  #evict(): void {
    for (const [repository, references] of this.#repositories) {
      for (const reference of references.keys()) {
        this.#remove(references, reference);
        if (references.size === 0) this.#repositories.delete(repository);
        return;
      }
      this.#repositories.delete(repository);
    }
  }

  #remove(references: Map<string, Entry>, reference: string): void {
    const entry = references.get(reference);
    if (entry === undefined) return;
    references.delete(reference);
    this.#entries--;
    this.#bytes -= weightOf(reference, entry.content);
  }
}

/** A content weighs once, under its digest. */
function weightOf(reference: string, content: ManifestContent): number {
  return reference === content.descriptor.digest ? content.bytes.length : 0;
}
