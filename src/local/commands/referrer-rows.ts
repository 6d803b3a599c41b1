/**
 * Clients' fallback tags, merged into the referrers API (distribution-spec, "Enabling the Referrers API"): the index
 * under `sha256-<hex>` lists manifests whose own bytes say what they are; its descriptors are not trusted.
 */
import type { CommandContext } from '../../database/database.ts';
import { digestToBytes, isDigest } from '../../oci/digest.ts';
import type { Tag } from '../../oci/names.ts';

/** The subject that a fallback tag names in its repository, or undefined where the tag is an ordinary one. */
export function subjectOfFallback(tag: Tag): Uint8Array | undefined {
  if (!tag.startsWith('sha256-') && !tag.startsWith('sha512-')) return undefined;
  const digest = `${tag.slice(0, 6)}:${tag.slice(7)}`;
  // A sha512 tag is cut at the tag's bound by the clients that write one, and then names no digest.
  return isDigest(digest) ? digestToBytes(digest) : undefined;
}

/** Lists an index's children as referrers of the subject. */
export async function indexFallback(
  { sql }: CommandContext,
  repositoryId: number,
  indexId: number,
  subject: Uint8Array,
  children: readonly Uint8Array[],
): Promise<void> {
  for (const digest of children) {
    const child = await sql.get<{ id: number; artifact_type: string | null; bytes: Uint8Array | null }>(
      `select m.id, m.artifact_type, c.bytes from manifest m left join content c on c.digest = m.digest
       where m.repository_id = ? and m.digest = ? and m.deleted_tick = 0`,
      repositoryId,
      digest,
    );
    if (child === undefined) continue;
    await sql.run(
      `insert into referrer (repository_id, subject, gone, digest, via_id, manifest_id, artifact_type, annotations)
       values (?, ?, 0, ?, ?, ?, ?, ?) on conflict (repository_id, subject, gone, digest, via_id) do nothing`,
      repositoryId,
      subject,
      digest,
      indexId,
      child.id,
      child.artifact_type,
      annotationsOf(child.bytes),
    );
  }
}

/** Takes back what an index listed, when its fallback tag leaves it. */
export async function dropFallback({ sql }: CommandContext, repositoryId: number, indexId: number): Promise<void> {
  await sql.run('delete from referrer where via_id = ? and repository_id = ?', indexId, repositoryId);
}

function annotationsOf(bytes: Uint8Array | null): string | null {
  if (bytes === null) return null;
  const { annotations } = JSON.parse(new TextDecoder().decode(bytes)) as { annotations?: object | null };
  return annotations === undefined || annotations === null ? null : JSON.stringify(annotations);
}
