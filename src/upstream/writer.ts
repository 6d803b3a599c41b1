/** Pushes to an upstream, and deletes there (distribution-spec, "Push", "Content Management"). */
import { algorithmOf, digestOf, isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { Digest, RepositoryName, Tag } from '../oci/names.ts';
import type { Call } from '../registry/call.ts';
import type { PushedManifest, RegistryDeleter, RegistryReader, RegistryWriter } from '../registry/registry.ts';
import { badAnswer } from './errors.ts';
import { deleteScope, pushScope, type Upstream } from './exchange.ts';
import { refuseGuards } from './guards.ts';
import { digestHeader } from './reader.ts';
import { upstreamUploads } from './uploads.ts';

/** `?tag=` of one request: distribution-spec lets a registry take so few. */
const MOST_TAGS = 10;

/**
 * The writer of an upstream. Conditions (guards) are refused. Several tags go in one request where the upstream takes
 * that (OCI-Tag); where it does not they are set one by one, and a failure leaves those before it set.
 */
export function upstreamWriter(to: Upstream, reader: Pick<RegistryReader, 'resolveBlob'>): RegistryWriter {
  const { host } = to;

  async function put(
    call: Call,
    repository: RepositoryName,
    reference: string,
    bytes: Uint8Array,
    mediaType: string,
    digest: Digest,
  ): Promise<{ readonly subject: Digest | undefined; readonly tags: readonly string[] }> {
    const answer = await to.ask(call, {
      method: 'PUT',
      path: `${repository}/manifests/${reference}`,
      scope: pushScope(repository),
      unknown: 'NAME_UNKNOWN',
      headers: mediaType === '' ? {} : { 'content-type': mediaType },
      body: bytes,
      limits: { headers: 60_000 },
    });
    answer.close();
    const said = digestHeader(answer, host);
    if (said !== undefined && said !== digest) throw badAnswer(host, `it calls the manifest ${digest} ${said}`);
    const subject = answer.header('oci-subject');
    const tags = answer.headers('oci-tag').flatMap((value) => value.split(','));
    return {
      subject: subject !== undefined && isDigest(subject) ? subject : undefined,
      tags: tags.map((tag) => tag.trim()),
    };
  }

  return {
    ...upstreamUploads(to, reader),

    async pushManifest(call, repository, bytes, mediaType, options = {}): Promise<PushedManifest> {
      refuseGuards(options.guards);
      const digest = digestOf(bytes, options.digest === undefined ? 'sha256' : algorithmOf(options.digest));
      if (options.digest !== undefined && options.digest !== digest) {
        throw new RegistryError('DIGEST_INVALID', `The manifest's bytes hash to ${digest}.`);
      }
      const tags = [...new Set(options.tags ?? [])];
      const [only] = tags;
      let subject: Digest | undefined;
      if (tags.length === 1 && only !== undefined && digest.startsWith('sha256:')) {
        ({ subject } = await put(call, repository, only, bytes, mediaType, digest));
      } else {
        const set = new Set<string>();
        for (let at = 0; at === 0 || at < tags.length; at += MOST_TAGS) {
          const query = new URLSearchParams(
            tags.slice(at, at + MOST_TAGS).map((tag): [string, string] => ['tag', tag]),
          );
          const pushed = await put(
            call,
            repository,
            `${digest}${query.size > 0 ? `?${query}` : ''}`,
            bytes,
            mediaType,
            digest,
          );
          ({ subject } = pushed);
          for (const tag of pushed.tags) set.add(tag);
        }
        for (const tag of tags) {
          if (!set.has(tag)) await put(call, repository, `${tag}?digest=${digest}`, bytes, mediaType, digest);
        }
      }
      return {
        descriptor: { mediaType, digest, size: bytes.length },
        tags,
        ...(subject === undefined ? {} : { subject }),
      };
    },
  };
}

/** The deleter of an upstream. */
export function upstreamDeleter(to: Upstream): RegistryDeleter {
  async function remove(
    call: Call,
    repository: RepositoryName,
    path: string,
    unknown: 'MANIFEST_UNKNOWN' | 'BLOB_UNKNOWN',
  ): Promise<void> {
    const scope = deleteScope(repository);
    (await to.ask(call, { method: 'DELETE', path: `${repository}/${path}`, scope, unknown })).close();
  }
  return {
    async deleteBlob(call, repository, digest, guards) {
      refuseGuards(guards);
      await remove(call, repository, `blobs/${digest}`, 'BLOB_UNKNOWN');
    },
    async deleteManifest(call, repository, digest, guards) {
      refuseGuards(guards);
      await remove(call, repository, `manifests/${digest}`, 'MANIFEST_UNKNOWN');
    },
    async deleteTag(call, repository, tag: Tag, guards) {
      refuseGuards(guards);
      await remove(call, repository, `manifests/${tag}`, 'MANIFEST_UNKNOWN');
    },
  };
}
