/** A registry that has the same images as a source of healing: one of `heal.registries`. */
import type { Configuration } from './configuration.ts';
import type { Clock } from './kit/clock.ts';
import type { HealingSource } from './maintenance/healing-source.ts';
import { RegistryError } from './oci/error.ts';
import type { Digest, RepositoryName } from './oci/names.ts';
import { isRepositoryName } from './oci/repository-name.ts';
import type { OutboundClient } from './outbound/client.ts';
import type { Call } from './registry/call.ts';
import type { RegistryReader } from './registry/registry.ts';

/** One entry of `heal.registries`. */
export type HealingRegistry = Configuration['heal']['registries'][number];

/**
 * The source. Asks the repositories that link the digest here, or the configured one; a manifest where manifests are
 * first, everything where blobs are. What it gives was hashed on the way. It rejects where no repository has it and
 * one of them could not be asked.
 */
export function registryHealingSource(entry: HealingRegistry, { clock }: { readonly clock: Clock }): HealingSource {
  const { host } = new URL(entry.url);
  let opened: Promise<{ readonly reader: RegistryReader; readonly client: OutboundClient }> | undefined;
  return {
    name: `registry ${host}`,
    async open(digest, size, linked, options) {
      // The client is loaded when something is to be healed.
      opened ??= connect(entry, clock);
      const { reader } = await opened;
      const call = callOf(options.signal);
      let failure: RegistryError | undefined;
      for (const repository of repositoriesOf(entry, linked)) {
        for (const read of options.manifest === undefined ? [blobOf] : [manifestOf, blobOf]) {
          options.signal.throwIfAborted();
          try {
            return await read(reader, call, repository, digest, size);
          } catch (error) {
            if (!(error instanceof RegistryError)) throw error;
            if (error.status !== 404) failure = error;
          }
        }
      }
      if (failure !== undefined) throw failure;
      return undefined;
    },
    async close() {
      const { client } = (await opened?.catch(() => undefined)) ?? {};
      await client?.close();
    },
  };
}

async function connect(
  { url, username, password, tokenHosts, allowPrivateAddresses }: HealingRegistry,
  clock: Clock,
): Promise<{ readonly reader: RegistryReader; readonly client: OutboundClient }> {
  const [{ outboundClient }, { upstreamRegistry }] = await Promise.all([
    import('./outbound/client.ts'),
    import('./upstream/registry.ts'),
  ]);
  const client = outboundClient({ allowPrivateAddresses });
  const credentials = username === undefined ? {} : { credentials: { username, password: password ?? '' } };
  return { client, reader: upstreamRegistry({ url, realmHosts: tokenHosts, ...credentials }, { client, clock }) };
}

function repositoriesOf({ repository }: HealingRegistry, linked: readonly RepositoryName[]): readonly RepositoryName[] {
  if (repository === undefined) return linked;
  return isRepositoryName(repository) ? [repository] : [];
}

function callOf(signal: AbortSignal): Call {
  return { principal: { kind: 'system', id: 'system:heal', name: '' }, requestId: 'heal', signal };
}

type Read = (
  reader: RegistryReader,
  call: Call,
  repository: RepositoryName,
  digest: Digest,
  size: number | undefined,
) => Promise<AsyncIterable<Uint8Array>>;

const manifestOf: Read = async (reader, call, repository, digest, size) => {
  const { bytes } = await reader.getManifest(call, repository, { digest });
  checkSize(bytes.length, size);
  return (async function* whole() {
    yield bytes;
  })();
};

const blobOf: Read = async (reader, call, repository, digest, size) => {
  const content = await reader.getBlob(call, repository, digest);
  try {
    checkSize(content.descriptor.size, size);
    return content.open() as AsyncIterable<Uint8Array>;
  } catch (error) {
    content.close();
    throw error;
  }
};

function checkSize(actual: number, expected: number | undefined): void {
  if (expected === undefined || actual === expected) return;
  throw new RegistryError('UNAVAILABLE', `It has ${actual} bytes where ${expected} are expected.`);
}
