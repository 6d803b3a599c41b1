/** The first tables: repositories and what they hold, the collector's queues, accounts, events, jobs, usage. */
import type { Migration } from '../migrate.ts';

const TABLES = `
create table installation (id INT primary key check (id = 1), uid text!, epoch INT!, oldest_program text!, created_at INT!) T;
create table migration (number INT primary key, name text! unique, applied_at INT!) T;
create table gc_clock (id INT primary key check (id = 1), tick INT! check (tick > 0)) T;
create table lease (name NAME primary key, kind text!, owner text!, fence INT!, since_tick INT!, due_tick INT!) T;
create table signing_key (kid NAME primary key, purpose text!, algorithm text!, secret BYTES!, public_jwk text, use_from INT!, use_until INT) T;
create table account (id ID, uid text! unique, name NAME! unique, password_hash text, disabled ZERO, generation INT! default 1, created_at INT!) T;
create table refresh_token (hash BYTES primary key, subject NAME!, generation INT!, service text!, client text, created_at INT!, expires_at INT!) T;
create index refresh_token_subject on refresh_token (subject);
create table project (id ID, uid text! unique, name NAME! unique, quota_bytes INT, quota_manifests INT, created_at INT!) T;
create table repository (id ID, uid text! unique, project_id INT! references project R,
  name NAME!, gone ZERO, shown ZERO, version ZERO,
  active_tick INT!, created_at INT!, unique (gone, name)) T;
create index repository_project on repository (project_id);
create index repository_hidden on repository (active_tick) where shown = 0;
create table blob (digest BYTES primary key, state text! check (state in ('absent','incoming','live','damaged')),
  size INT, n INT, stored ZERO, lease_tick ZERO,
  check ((state = 'absent') = (n is null)), check (stored = 0 or state = 'live'), check (state = 'absent' or size is not null)) W;
create index blob_unspilled on blob (digest) where state = 'live' and stored = 0;
create index blob_damaged on blob (digest) where state = 'damaged';
create table content (digest BYTES primary key references blob R, bytes BYTES!) T;
create table link (repository_id INT! references repository R, digest BYTES! references blob R, primary key (repository_id, digest)) W;
create index link_digest on link (digest);
create table manifest (id ID, repository_id INT! references repository R, digest BYTES! references blob R,
  media_type text!, artifact_type text, size INT!, subject BYTES, deleted_tick ZERO, pushed_at INT!, unique (repository_id, digest)) T;
create index manifest_digest on manifest (digest);
create index manifest_tombstone on manifest (deleted_tick) where deleted_tick > 0;
create table reference (manifest_id INT! references manifest R, digest BYTES! references blob R,
  is_child INT!, repository_id INT!, child_id INT references manifest R, primary key (manifest_id, digest, is_child)) W;
create index reference_digest on reference (digest, repository_id);
create index reference_child on reference (child_id) where child_id is not null;
create table tag (repository_id INT! references repository R, gone ZERO, name NAME!,
  manifest_id INT! references manifest R, deleted_tick ZERO, updated_at INT!,
  primary key (repository_id, gone, name), check ((gone = 0) = (deleted_tick = 0))) W;
create index tag_manifest on tag (manifest_id);
create index tag_tombstone on tag (deleted_tick) where deleted_tick > 0;
create table tag_event (id ID, repository_id INT! references repository R, name NAME!,
  kind text!, from_digest BYTES, to_digest BYTES, actor text!, origin text!, at INT!) T;
create index tag_event_name on tag_event (repository_id, name, id);
create table referrer (repository_id INT!, subject BYTES!, gone ZERO, digest BYTES!, via_id ZERO,
  manifest_id INT! references manifest R, artifact_type text, annotations text, primary key (repository_id, subject, gone, digest, via_id)) T;
create index referrer_manifest on referrer (manifest_id);
create index referrer_via on referrer (via_id) where via_id > 0;
create table upload (id BYTES primary key, repository_id INT! references repository R, principal text!,
  size INT!, state text!, fence INT!, claimed ZERO, due_tick INT!, created_at INT!) T;
create index upload_due on upload (due_tick);
create index upload_repository on upload (repository_id);
create table gc_queue (repository_id INT!, digest BYTES!, due_tick INT!, primary key (repository_id, digest)) W;
create index gc_queue_due on gc_queue (due_tick);
create table dead_key (digest BYTES!, n INT!, tick INT!, confirmed ZERO, primary key (digest, n)) W;
create index dead_key_open on dead_key (tick) where confirmed = 0;
create table orphan (key NAME primary key, seen_tick INT!) T;
create table hold (id ID, uid text! unique, repository_id INT references repository R, tag NAME, digest BYTES,
  reason text!, actor text!, until_at INT, created_at INT!) T;
create index hold_repository on hold (repository_id);
create index hold_digest on hold (digest) where digest is not null;
create table outbox (id ID, uid text!, type text!, repository_id INT, payload text!, at INT!) T;
create table job (id ID, type text!, key NAME, payload text!, state text!, run_at INT!, attempt ZERO, fence ZERO, outcome text) T;
create unique index job_key on job (type, key) where state = 'waiting' and key is not null;
create index job_due on job (type, run_at, id) where state = 'waiting';
create index job_running on job (type, key) where state = 'running';
create table side.job_lease (job_id INT primary key, owner text!, fence INT!, until_at INT!, progress text) T;
create table usage_delta (id ID, repository_id INT!, bytes INT!, manifests INT!) T;
create table usage (repository_id INT primary key, bytes INT!, manifests INT!) T;
`;

/** The core's tables, and the rows that are always there. */
export const core: Migration = {
  number: 1,
  name: 'core',
  ddl: TABLES,
  async fill(sql, facts) {
    await sql.run(
      'insert into installation (id, uid, epoch, oldest_program, created_at) values (1, ?, 1, ?, ?)',
      facts.uuid(),
      '0.1.0',
      facts.now,
    );
    await sql.run('insert into gc_clock (id, tick) values (1, 1)');
    await sql.run(
      'insert into project (id, uid, name, created_at) values (1, ?, ?, ?)',
      facts.uuid(),
      'default',
      facts.now,
    );
    // An explicit id does not move PostgreSQL's sequence past it.
    if (facts.dialect === 'postgres') await sql.get("select setval(pg_get_serial_sequence('project', 'id'), 1) as id");
  },
};
