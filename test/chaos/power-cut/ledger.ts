/** What clients did, in the order of their answers, and what each answer promised. */

/** One request with one answer; `other` promises nothing. */
export type Operation = { readonly repository: string } & (
  | { readonly kind: 'blob'; readonly digest: string }
  | {
      readonly kind: 'manifest';
      readonly digest: string;
      readonly tag: string | undefined;
      readonly blobs: readonly string[];
    }
  | { readonly kind: 'delete-tag'; readonly tag: string }
  | { readonly kind: 'delete-manifest' | 'restore'; readonly digest: string; readonly blobs: readonly string[] }
  | { readonly kind: 'other' }
);

/** What a repository holds, by the answers alone. */
export interface Promised {
  readonly tags: Map<string, string>;
  readonly manifests: Map<string, readonly string[]>;
  /** Pushed and not yet named, or named by a manifest that is there. */
  readonly blobs: Set<string>;
}

/** Every repository after the first `count` operations. */
export function promisedAfter(operations: readonly Operation[], count: number): Map<string, Promised> {
  const all = new Map<string, Promised>();
  for (const operation of operations.slice(0, count)) {
    let at = all.get(operation.repository);
    if (at === undefined) {
      at = { tags: new Map(), manifests: new Map(), blobs: new Set() };
      all.set(operation.repository, at);
    }
    apply(at, operation);
  }
  return all;
}

function apply({ tags, manifests, blobs }: Promised, operation: Operation): void {
  switch (operation.kind) {
    case 'blob':
      blobs.add(operation.digest);
      break;
    case 'manifest':
    case 'restore':
      manifests.set(operation.digest, operation.blobs);
      for (const blob of operation.blobs) blobs.add(blob);
      if (operation.kind === 'manifest' && operation.tag !== undefined) tags.set(operation.tag, operation.digest);
      break;
    case 'delete-tag':
      tags.delete(operation.tag);
      break;
    case 'delete-manifest': {
      manifests.delete(operation.digest);
      for (const [tag, digest] of [...tags]) if (digest === operation.digest) tags.delete(tag);
      const needed = new Set([...manifests.values()].flat());
      for (const blob of operation.blobs) if (!needed.has(blob)) blobs.delete(blob);
      break;
    }
    case 'other':
  }
}

/** One line for each tag and manifest: two worlds are the same where these are. */
export function described({
  tags,
  manifests,
}: Pick<Promised, 'tags'> & { manifests: Iterable<readonly [string, unknown]> }): string {
  return [...[...tags].map(([tag, digest]) => `${tag} → ${digest}`), ...[...manifests].map(([digest]) => digest)]
    .sort()
    .join('\n');
}
