/** The push of a manifest: parsed once, checked against its digest, then one command. */
import { failpoint } from '../kit/failpoint.ts';
import { algorithmOf, digestOf, digestToBytes } from '../oci/digest.ts';
import { parseManifest } from '../oci/manifest.ts';
import type { Descriptor } from '../oci/names.ts';
import { factsOf } from '../registry/call.ts';
import type { RegistryWriter } from '../registry/registry.ts';
import { digestMismatch } from './blobs.ts';
import { manifestPush } from './commands/manifest-push.ts';
import type { LocalParts, Sparse } from './parts.ts';

function byDigest(a: Uint8Array, b: Uint8Array): number {
  return Buffer.compare(a, b);
}

/** `pushManifest`. */
export function localManifests(parts: LocalParts): Pick<RegistryWriter, 'pushManifest'> {
  return {
    async pushManifest(call, repository, bytes, mediaType, options = {}) {
      const digest = digestOf(bytes, options.digest === undefined ? 'sha256' : algorithmOf(options.digest));
      if (options.digest !== undefined && options.digest !== digest) throw digestMismatch(options.digest, digest);
      const parsed = parseManifest(bytes, mediaType);
      const { artifactType, annotations, subject } = parsed;
      const tags = [...new Set(options.tags ?? [])];
      failpoint('manifest.commit.before');
      await parts.database.run(manifestPush, {
        repository,
        digest: digestToBytes(digest),
        bytes,
        mediaType: parsed.mediaType,
        artifactType: artifactType ?? null,
        annotations: annotations === undefined ? null : JSON.stringify(annotations),
        subject: subject === undefined ? null : digestToBytes(subject.digest),
        blobs: parsed.blobs
          .map((blob) => ({ digest: digestToBytes(blob.digest), required: blob.required }))
          .sort((a, b) => byDigest(a.digest, b.digest)),
        children: parsed.children.map((child) => digestToBytes(child.digest)).sort(byDigest),
        isIndex: parsed.kind === 'index',
        tags: tags.toSorted(),
        sparse: allowed(parts.sparse, parsed.kind),
        guards: options.guards ?? [],
        facts: factsOf(call),
      });
      failpoint('manifest.commit.after');
      const descriptor: Descriptor = { mediaType: parsed.mediaType, digest, size: bytes.length };
      return { descriptor, tags, ...(subject === undefined ? {} : { subject: subject.digest }) };
    },
  };
}

/** `indexes` lets an index name what is missing, and nothing else. */
function allowed(sparse: Sparse, kind: 'image' | 'index'): Sparse {
  return sparse === 'indexes' && kind === 'image' ? 'none' : sparse;
}
