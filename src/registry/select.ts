/** Several stores as one: each repository lies in exactly one of them. No base class: a new method needs a decision here. */
import type { RepositoryName } from '../oci/names.ts';
import { eachPage } from './each-page.ts';
import type { Store } from './registry.ts';

type Args<M extends keyof Store> = Parameters<Store[M]>;
type Answer<M extends keyof Store> = ReturnType<Store[M]>;

/** `choose`: the store of a repository, always one of `stores`, always the same one for a name. */
export function select(stores: readonly Store[], choose: (repository: RepositoryName) => Store): Store {
  return new Select(stores, choose);
}

class Select implements Store {
  readonly #stores: readonly Store[];
  readonly #of: (repository: RepositoryName) => Store;

  constructor(stores: readonly Store[], choose: (repository: RepositoryName) => Store) {
    this.#stores = stores;
    this.#of = choose;
  }

  resolveManifest(...args: Args<'resolveManifest'>): Answer<'resolveManifest'> {
    return this.#of(args[1]).resolveManifest(...args);
  }
  getManifest(...args: Args<'getManifest'>): Answer<'getManifest'> {
    return this.#of(args[1]).getManifest(...args);
  }
  resolveBlob(...args: Args<'resolveBlob'>): Answer<'resolveBlob'> {
    return this.#of(args[1]).resolveBlob(...args);
  }
  getBlob(...args: Args<'getBlob'>): Answer<'getBlob'> {
    return this.#of(args[1]).getBlob(...args);
  }
  pushBlob(...args: Args<'pushBlob'>): Answer<'pushBlob'> {
    return this.#of(args[1]).pushBlob(...args);
  }
  startUpload(...args: Args<'startUpload'>): Answer<'startUpload'> {
    return this.#of(args[1]).startUpload(...args);
  }
  uploadStatus(...args: Args<'uploadStatus'>): Answer<'uploadStatus'> {
    return this.#of(args[1]).uploadStatus(...args);
  }
  appendUpload(...args: Args<'appendUpload'>): Answer<'appendUpload'> {
    return this.#of(args[1]).appendUpload(...args);
  }
  commitUpload(...args: Args<'commitUpload'>): Answer<'commitUpload'> {
    return this.#of(args[1]).commitUpload(...args);
  }
  cancelUpload(...args: Args<'cancelUpload'>): Answer<'cancelUpload'> {
    return this.#of(args[1]).cancelUpload(...args);
  }
  /** Between two stores nothing can be linked: undefined, and the client uploads. */
  async mountBlob(...args: Args<'mountBlob'>): Answer<'mountBlob'> {
    const [, repository, , from] = args;
    const store = this.#of(repository);
    return from !== undefined && this.#of(from) !== store ? undefined : store.mountBlob(...args);
  }
  pushManifest(...args: Args<'pushManifest'>): Answer<'pushManifest'> {
    return this.#of(args[1]).pushManifest(...args);
  }
  deleteBlob(...args: Args<'deleteBlob'>): Answer<'deleteBlob'> {
    return this.#of(args[1]).deleteBlob(...args);
  }
  deleteManifest(...args: Args<'deleteManifest'>): Answer<'deleteManifest'> {
    return this.#of(args[1]).deleteManifest(...args);
  }
  deleteTag(...args: Args<'deleteTag'>): Answer<'deleteTag'> {
    return this.#of(args[1]).deleteTag(...args);
  }
  listTags(...args: Args<'listTags'>): Answer<'listTags'> {
    return this.#of(args[1]).listTags(...args);
  }
  listReferrers(...args: Args<'listReferrers'>): Answer<'listReferrers'> {
    return this.#of(args[1]).listReferrers(...args);
  }
  restore(...args: Args<'restore'>): Answer<'restore'> {
    return this.#of(args[1]).restore(...args);
  }
  purge(...args: Args<'purge'>): Answer<'purge'> {
    return this.#of(args[1]).purge(...args);
  }
  deleteRepository(...args: Args<'deleteRepository'>): Answer<'deleteRepository'> {
    return this.#of(args[1]).deleteRepository(...args);
  }

  /** Merges the stores' own sorted lists; of each only what is chosen from it. */
  async listRepositories(...[call, page, visibility]: Args<'listRepositories'>): Answer<'listRepositories'> {
    const { limit } = page;
    const after = page.after === undefined ? {} : { after: page.after };
    const lists = this.#stores.map((store) => ({
      store,
      names: eachPage((one) => store.listRepositories(call, one, visibility), { ...after, limit }),
    }));
    const advance = async ({ store, names }: (typeof lists)[number]): Promise<RepositoryName | undefined> => {
      for (;;) {
        const { value, done } = await names.next();
        if (done === true) return undefined;
        if (this.#of(value) === store) return value;
      }
    };
    const heads = await Promise.all(lists.map(advance));
    const items: RepositoryName[] = [];
    for (;;) {
      let least = -1;
      for (const [i, head] of heads.entries()) {
        if (head !== undefined && (least < 0 || head < heads[least]!)) least = i;
      }
      if (least < 0) return { items };
      if (items.length === limit) return { items, next: items[limit - 1]! };
      items.push(heads[least]!);
      heads[least] = await advance(lists[least]!);
    }
  }
}
