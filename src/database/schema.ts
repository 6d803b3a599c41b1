/** The tables as Kysely sees them; the DDL is `migrations/0001-core.ts`. Digests are `digestToBytes` of oci. Ids are integers. */
import type { Generated } from 'kysely';
import type { BlobState, RepositoryName, Tag } from '../oci/names.ts';

export interface InstallationTable {
  id: number;
  uid: string;
  epoch: number;
  oldest_program: string;
  created_at: number;
}
export interface MigrationTable {
  number: number;
  name: string;
  applied_at: number;
}
export interface GcClockTable {
  id: number;
  tick: number;
}
export interface LeaseTable {
  name: string;
  kind: string;
  owner: string;
  fence: number;
  since_tick: number;
  due_tick: number;
}
export interface SigningKeyTable {
  kid: string;
  purpose: string;
  algorithm: string;
  secret: Uint8Array;
  public_jwk: string | null;
  use_from: number;
  use_until: number | null;
}
export interface AccountTable {
  id: Generated<number>;
  uid: string;
  name: string;
  password_hash: string | null;
  disabled: 0 | 1;
  generation: number;
  created_at: number;
}
export interface RefreshTokenTable {
  hash: Uint8Array;
  subject: string;
  generation: number;
  service: string;
  client: string | null;
  created_at: number;
  expires_at: number;
}
export interface ProjectTable {
  id: Generated<number>;
  uid: string;
  name: string;
  quota_bytes: number | null;
  quota_manifests: number | null;
  created_at: number;
}
/** `gone`: 0, or the row's own id once deleted. `shown`: whether it ever had a manifest. */
export interface RepositoryTable {
  id: Generated<number>;
  uid: string;
  project_id: number;
  name: RepositoryName;
  gone: number;
  shown: 0 | 1;
  version: number;
  active_tick: number;
  created_at: number;
}
export interface BlobTable {
  digest: Uint8Array;
  state: BlobState;
  size: number | null;
  n: number | null;
  stored: 0 | 1;
  lease_tick: number;
}
export interface ContentTable {
  digest: Uint8Array;
  bytes: Uint8Array;
}
export interface LinkTable {
  repository_id: number;
  digest: Uint8Array;
}
export interface ManifestTable {
  id: Generated<number>;
  repository_id: number;
  digest: Uint8Array;
  media_type: string;
  artifact_type: string | null;
  size: number;
  subject: Uint8Array | null;
  deleted_tick: number;
  pushed_at: number;
}
export interface ReferenceTable {
  manifest_id: number;
  digest: Uint8Array;
  is_child: 0 | 1;
  repository_id: number;
  child_id: number | null;
}
/** `gone`: 0, or the id of the tag_event that deleted it. */
export interface TagTable {
  repository_id: number;
  gone: number;
  name: Tag;
  manifest_id: number;
  deleted_tick: number;
  updated_at: number;
}
export interface TagEventTable {
  id: Generated<number>;
  repository_id: number;
  name: Tag;
  kind: string;
  from_digest: Uint8Array | null;
  to_digest: Uint8Array | null;
  actor: string;
  origin: string;
  at: number;
}
export interface ReferrerTable {
  repository_id: number;
  subject: Uint8Array;
  gone: number;
  digest: Uint8Array;
  via_id: number;
  manifest_id: number;
  artifact_type: string | null;
  annotations: string | null;
}
export interface UploadTable {
  id: Uint8Array;
  repository_id: number;
  principal: string;
  size: number;
  state: string;
  fence: number;
  claimed: number;
  due_tick: number;
  created_at: number;
}
export interface GcQueueTable {
  repository_id: number;
  digest: Uint8Array;
  due_tick: number;
}
export interface DeadKeyTable {
  digest: Uint8Array;
  n: number;
  tick: number;
  confirmed: 0 | 1;
  size: number | null;
}
export interface OrphanTable {
  key: string;
  seen_tick: number;
}
export interface HoldTable {
  id: Generated<number>;
  uid: string;
  repository_id: number | null;
  tag: Tag | null;
  digest: Uint8Array | null;
  reason: string;
  actor: string;
  until_at: number | null;
  created_at: number;
}
export interface OutboxTable {
  id: Generated<number>;
  uid: string;
  type: string;
  repository_id: number | null;
  payload: string;
  at: number;
}
export interface JobTable {
  id: Generated<number>;
  type: string;
  key: string | null;
  payload: string;
  state: string;
  run_at: number;
  attempt: number;
  fence: number;
  outcome: string | null;
}
export interface JobLeaseTable {
  job_id: number;
  owner: string;
  fence: number;
  until_at: number;
  progress: string | null;
}
export interface UsageDeltaTable {
  id: Generated<number>;
  repository_id: number;
  bytes: number;
  manifests: number;
}
export interface UsageTable {
  repository_id: number;
  bytes: number;
  manifests: number;
}

/** The one row: the scrub's round, where it is, and who works at it until when. `halted`: why nothing more is looked at. */
export interface ScrubTable {
  id: number;
  round: number;
  begun_at: number;
  ended_at: number | null;
  place: Uint8Array;
  blobs: number;
  bytes: number;
  damaged: number;
  unreadable: number;
  total_blobs: number;
  total_bytes: number;
  halted: string | null;
  owner: string;
  fence: number;
  until_at: number;
}
/** What was found damaged. `healed_from`: a source's name, `database`, `storage` or `push`. `next_at`: when sources are asked next. */
export interface DamageTable {
  id: Generated<number>;
  digest: Uint8Array;
  n: number;
  size: number;
  found_by: string;
  why: string;
  found_at: number;
  state: 'open' | 'healed' | 'gone';
  closed_at: number | null;
  healed_from: string | null;
  attempts: number;
  next_at: number;
  outcome: string | null;
}

/** Every table by its name. A feature's own are added by declaration merging beside its migrations. */
export interface Tables {
  installation: InstallationTable;
  migration: MigrationTable;
  gc_clock: GcClockTable;
  lease: LeaseTable;
  signing_key: SigningKeyTable;
  account: AccountTable;
  refresh_token: RefreshTokenTable;
  project: ProjectTable;
  repository: RepositoryTable;
  blob: BlobTable;
  content: ContentTable;
  link: LinkTable;
  manifest: ManifestTable;
  reference: ReferenceTable;
  tag: TagTable;
  tag_event: TagEventTable;
  referrer: ReferrerTable;
  upload: UploadTable;
  gc_queue: GcQueueTable;
  dead_key: DeadKeyTable;
  orphan: OrphanTable;
  hold: HoldTable;
  outbox: OutboxTable;
  job: JobTable;
  job_lease: JobLeaseTable;
  usage_delta: UsageDeltaTable;
  usage: UsageTable;
  scrub: ScrubTable;
  damage: DamageTable;
}
