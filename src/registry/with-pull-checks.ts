/** Asks every check before a manifest leaves. It decides on the digest whose bytes are sent, so a tag cannot slip between. */
import { RegistryError } from '../oci/error.ts';
import type { Descriptor, RepositoryName } from '../oci/names.ts';
import type { Call } from './call.ts';
import { Passthrough } from './passthrough.ts';
import type { ManifestContent, PullCheck, Store } from './registry.ts';

/** The store under these checks; HEAD and GET are checked alike. A check that throws refuses too. */
export function withPullChecks(inner: Store, checks: readonly PullCheck[]): Store {
  return checks.length === 0 ? inner : new WithPullChecks(inner, checks);
}

class WithPullChecks extends Passthrough {
  readonly #checks: readonly PullCheck[];

  constructor(inner: Store, checks: readonly PullCheck[]) {
    super(inner);
    this.#checks = checks;
  }

  async #check(call: Call, repository: RepositoryName, manifest: Descriptor): Promise<void> {
    for (const check of this.#checks) {
      const refusal = await check.check(call, repository, manifest);
      if (refusal === undefined) continue;
      throw new RegistryError('DENIED', refusal, { detail: { check: check.name, digest: manifest.digest } });
    }
  }

  override async resolveManifest(...args: Parameters<Store['resolveManifest']>): Promise<Descriptor> {
    const manifest = await this.inner.resolveManifest(...args);
    await this.#check(args[0], args[1], manifest);
    return manifest;
  }

  override async getManifest(...args: Parameters<Store['getManifest']>): Promise<ManifestContent> {
    const content = await this.inner.getManifest(...args);
    await this.#check(args[0], args[1], content.descriptor);
    return content;
  }
}
