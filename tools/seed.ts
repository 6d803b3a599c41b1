/**
 * `npm run seed`: pushes made-up repositories, images and layers to a running registry over HTTP, so that there is
 * something to look at or to measure. The same seed gives the same bytes; what is there already is not sent again.
 *
 *   npm run seed -- --url http://127.0.0.1:5000 --repositories 20 --tags 5 --layers 3 --layer-size 65536
 */
import { createHash } from 'node:crypto';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    url: { type: 'string', default: 'http://127.0.0.1:5000' },
    repositories: { type: 'string', default: '10' },
    tags: { type: 'string', default: '5' },
    layers: { type: 'string', default: '3' },
    'layer-size': { type: 'string', default: '65536' },
    prefix: { type: 'string', default: 'seed' },
    seed: { type: 'string', default: '1' },
    concurrency: { type: 'string', default: '8' },
    user: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(`npm run seed -- [--url URL] [--repositories N] [--tags N] [--layers N] [--layer-size BYTES]
                [--prefix NAME] [--seed N] [--concurrency N] [--user NAME]
A password for --user is read from the variable SEED_PASSWORD.`);
  process.exit(0);
}

const base = values.url.replace(/\/$/, '');
const count = (text: string, name: string): number => {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 0) throw new Error(`--${name} must be a whole number`);
  return number;
};
const repositories = count(values.repositories, 'repositories');
const tags = count(values.tags, 'tags');
const layers = count(values.layers, 'layers');
const layerSize = count(values['layer-size'], 'layer-size');
const concurrency = Math.max(1, count(values.concurrency, 'concurrency'));
const login: Record<string, string> =
  values.user === undefined
    ? {}
    : { authorization: `Basic ${Buffer.from(`${values.user}:${process.env.SEED_PASSWORD ?? ''}`).toString('base64')}` };

const OCI = 'application/vnd.oci.image';
interface Piece {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly bytes: Uint8Array;
}
let sentBytes = 0;
let sentBlobs = 0;
let images = 0;

/** Bytes that look random and follow from a name. */
function bytesOf(name: string, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let at = 0, block = 0; at < size; at += 64, block++) {
    createHash('sha512').update(`${values.seed}/${name}/${block}`).digest().copy(bytes, at);
  }
  return bytes;
}

function piece(mediaType: string, bytes: Uint8Array): Piece {
  return { mediaType, bytes, size: bytes.length, digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}` };
}

async function send(method: string, path: string, body?: Uint8Array, type?: string): Promise<Response> {
  const headers = { ...login, ...(type === undefined ? {} : { 'content-type': type }) };
  const answer = await fetch(new URL(path, `${base}/`), {
    method,
    headers,
    ...(body === undefined ? {} : { body: body as Uint8Array<ArrayBuffer> }),
  });
  if (answer.status >= 400 && !(method === 'HEAD' && answer.status === 404)) {
    throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  }
  return answer;
}

async function pushBlob(repository: string, blob: Piece): Promise<void> {
  const there = await send('HEAD', `/v2/${repository}/blobs/${blob.digest}`);
  if (there.status === 200) return;
  const begun = await send('POST', `/v2/${repository}/blobs/uploads/`);
  await begun.arrayBuffer();
  const place = new URL(begun.headers.get('location') ?? '', `${base}/`);
  place.searchParams.set('digest', blob.digest);
  const put = await send('PUT', place.pathname + place.search, blob.bytes, 'application/octet-stream');
  await put.arrayBuffer();
  sentBytes += blob.size;
  sentBlobs++;
}

const described = ({ mediaType, digest, size }: Piece): object => ({ mediaType, digest, size });

async function pushImage(repository: string, tag: string): Promise<void> {
  // The lowest layer is every image's, the next the repository's, the rest its own: as real images share.
  const stack = Array.from({ length: layers }, (_unused, index) => {
    const name = index === 0 ? 'base' : index === 1 ? repository : `${repository}:${tag}/${index}`;
    return piece(`${OCI}.layer.v1.tar`, bytesOf(name, layerSize));
  });
  const config = piece(
    `${OCI}.config.v1+json`,
    Buffer.from(
      JSON.stringify({
        architecture: 'amd64',
        os: 'linux',
        config: { Labels: { repository, tag } },
        rootfs: { type: 'layers', diff_ids: stack.map((layer) => layer.digest) },
      }),
    ),
  );
  for (const blob of [...stack, config]) await pushBlob(repository, blob);
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: `${OCI}.manifest.v1+json`,
      config: described(config),
      layers: stack.map(described),
    }),
  );
  const put = await send('PUT', `/v2/${repository}/manifests/${tag}`, manifest, `${OCI}.manifest.v1+json`);
  await put.arrayBuffer();
  images++;
}

const work = Array.from(
  { length: repositories },
  (_unused, index) => `${values.prefix}/app-${String(index + 1).padStart(3, '0')}`,
);
const started = performance.now();
try {
  await Promise.all(
    Array.from({ length: Math.min(concurrency, repositories) }, async () => {
      for (let repository = work.shift(); repository !== undefined; repository = work.shift()) {
        for (let tag = 1; tag <= tags; tag++) await pushImage(repository, tag === tags ? 'latest' : `v1.${tag}.0`);
      }
    }),
  );
} catch (error) {
  const { message, cause } = error as Error;
  console.error(
    `seed: ${cause instanceof Error ? `${base} does not answer (${cause.message}). Is it running?` : message}`,
  );
  process.exit(1);
}
const seconds = (performance.now() - started) / 1000;
console.log(
  `seed: ${images} images in ${repositories} repositories; ${sentBlobs} blobs, ${(sentBytes / 1024 / 1024).toFixed(1)} MiB sent in ${seconds.toFixed(1)} s`,
);
