/** The media types that Longshore looks at (image-spec, media-types.md; Docker image manifest v2, schema 2). */

/** An OCI image manifest; artifacts use it too. */
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
/** An OCI image index. */
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
/** A Docker image manifest, schema 2. */
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
/** A Docker manifest list. */
export const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';
/** What a blob is served as. */
export const OCTET_STREAM = 'application/octet-stream';

/** Whether a layer of this type must never be required to be here (image-spec, layer.md, "Non-Distributable Layers"). */
export function isNonDistributable(mediaType: string): boolean {
  return (
    mediaType.startsWith('application/vnd.oci.image.layer.nondistributable.') ||
    mediaType.startsWith('application/vnd.docker.image.rootfs.foreign.')
  );
}
