/** Holds and backups in a run: what they keep must be there for as long as they last. */
import { blobKey } from '../../src/oci/blob-key.ts';
import { digestFromBytes, digestToBytes } from '../../src/oci/digest.ts';
import type { Digest } from '../../src/oci/names.ts';
import type { Choices } from '../support/random.ts';
import type { ModelDatabase } from './model-database.ts';
import type { Scheduler } from './scheduler.ts';

/** What must stay for a while: manifests and blobs under a hold, keys in the snapshot of a backup. */
interface Kept {
  readonly what: 'hold' | 'backup';
  readonly name: string;
  readonly until: number;
  readonly manifests: readonly number[];
  readonly blobs: readonly Uint8Array[];
  readonly keys: ReadonlySet<string>;
}

/** Makes them and ends them. */
export class Keeper {
  readonly #model: ModelDatabase;
  readonly #choices: Choices;
  #kept: Kept[] = [];
  #made = 0;

  constructor(model: ModelDatabase, choices: Choices) {
    this.#model = model;
    this.#choices = choices;
  }

  /** Whether a backup that runs has the key in its snapshot. */
  needs(key: string): boolean {
    return this.#kept.some(({ keys }) => keys.has(key));
  }

  /** Somebody holds what is there, or takes a snapshot. */
  keep(scheduler: Scheduler, repositoryName: string, digestName: Digest): void {
    const model = this.#model;
    const choices = this.#choices;
    const name = `k${++this.#made}`;
    const until = scheduler.tick + choices.below(20);
    const none = { name, until, manifests: [], blobs: [], keys: new Set<string>() };
    const kind = choices.below(3);
    scheduler.trace.push(`${['a backup', 'a hold of a blob', 'a hold of a repository'][kind]} until ${until}`);
    if (kind === 0) {
      model.all(
        "insert into lease (name, kind, owner, fence, since_tick, due_tick) values (?, 'backup', '', 0, ?, ?)",
        name,
        scheduler.tick,
        until,
      );
      const stored = model.all('select digest, n from blob where stored = 1');
      const keys = stored.map(({ digest, n }) => blobKey(digestFromBytes(digest as Uint8Array), n as number));
      this.#kept.push({ ...none, what: 'backup', keys: new Set(keys) });
      return;
    }
    const repository = model.get('select id from repository where gone = 0 and name = ?', repositoryName);
    const blob = model.get("select digest from blob where state = 'live' and digest = ?", digestToBytes(digestName));
    if (kind === 1 ? blob === undefined : repository === undefined) return;
    const id = kind === 1 ? null : (repository?.id as number);
    const digest = kind === 1 ? (blob?.digest as Uint8Array) : null;
    model.all(
      "insert into hold (uid, repository_id, digest, reason, actor, created_at) values (?, ?, ?, 'a test', 'test', 0)",
      name,
      id,
      digest,
    );
    const manifests = id === null ? [] : model.all('select id from manifest where repository_id = ?', id);
    this.#kept.push({
      ...none,
      what: 'hold',
      manifests: manifests.map((row) => row.id as number),
      blobs: digest === null ? [] : [digest],
    });
  }

  /** What was kept may go. */
  release(tick: number): void {
    const over = ({ until }: Kept): boolean => until < tick;
    for (const { what, name } of this.#kept.filter(over)) {
      if (what === 'hold') this.#model.all('delete from hold where uid = ?', name);
      else this.#model.all('delete from lease where name = ?', name);
    }
    this.#kept = this.#kept.filter((kept) => !over(kept));
  }

  /** What a hold did not keep. */
  broken(): string | undefined {
    for (const { manifests, blobs } of this.#kept) {
      for (const id of manifests)
        if (this.#model.get('select 1 from manifest where id = ?', id) === undefined) return 'a held manifest is gone';
      for (const digest of blobs)
        if (this.#model.get("select 1 from blob where digest = ? and state <> 'absent'", digest) === undefined)
          return `the held blob ${digestFromBytes(digest)} is gone`;
    }
    return undefined;
  }
}
