/** A small HTTP client over `node:http`, which sends exactly what it is told, and the pushes that tests need. */
import { createHash } from 'node:crypto';
import { Agent, type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from 'node:http';
import type { Readable } from 'node:stream';
import { type Image, type Piece, TYPES } from './images.ts';

/** Every manifest type, then anything: for reads that want the bytes as they were pushed. */
const ANY_MANIFEST = [TYPES.manifest, TYPES.index, TYPES.dockerManifest, TYPES.dockerList, '*/*'].join(', ');

/** A whole answer. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** A request's parts. */
export interface Ask {
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: Uint8Array | string | Readable;
}

/** What a client is. */
export interface Client {
  readonly url: string;
  /** Sends one request; `path` goes on the wire as it is. Rejects only where the connection fails. */
  send(method: string, path: string, ask?: Ask): Promise<Answer>;
  /** GET, without keeping the body: its status, length and sha256 digest. */
  hash(path: string): Promise<{ readonly status: number; readonly size: number; readonly digest: string }>;
  /** POST then PUT. Gives the last answer. */
  pushBlob(repository: string, blob: Piece): Promise<Answer>;
  /** POST, PATCHes of `chunk` bytes, PUT. Gives the last answer, or the first that was not as expected. */
  pushChunked(repository: string, blob: Piece, chunk: number): Promise<Answer>;
  mountBlob(repository: string, digest: string, from: string): Promise<Answer>;
  /** The manifest under a tag or, without one, its digest. */
  pushManifest(repository: string, manifest: Piece, tag?: string): Promise<Answer>;
  /** All blobs, then the manifest; throws unless each answers 201. */
  pushImage(repository: string, image: Image, tag?: string): Promise<void>;
  /** Ends the connections it kept. */
  close(): void;
}

/** The codes in an answer's error body. */
export function errorCodes(answer: Answer): string[] {
  const parsed: unknown = JSON.parse(answer.body.toString());
  const errors = (parsed as { errors?: { code: string }[] }).errors ?? [];
  return errors.map((error) => error.code);
}

/** A client of one server. */
export function client(url: string, headers: OutgoingHttpHeaders = {}, sockets = 16): Client {
  const agent = new Agent({ keepAlive: true, maxSockets: sockets });
  const base = new URL(url);

  function open(
    method: string,
    path: string,
    ask: Ask,
    use: (answer: NodeJS.ReadableStream & { statusCode?: number | undefined; headers: IncomingHttpHeaders }) => void,
    fail: (error: Error) => void,
  ): void {
    const own: OutgoingHttpHeaders = { ...headers, ...ask.headers };
    const { body } = ask;
    if (typeof body === 'string' || body instanceof Uint8Array) own['content-length'] ??= Buffer.byteLength(body);
    else if (body === undefined && ['POST', 'PUT', 'PATCH'].includes(method)) own['content-length'] ??= 0;
    const asked = request({ agent, host: base.hostname, port: base.port, method, path, headers: own });
    asked.on('response', use);
    asked.on('error', fail);
    if (body === undefined || typeof body === 'string' || body instanceof Uint8Array) asked.end(body);
    else {
      body.on('error', (error) => asked.destroy(error));
      body.pipe(asked);
    }
  }

  const send = (method: string, path: string, ask: Ask = {}): Promise<Answer> =>
    new Promise((done, fail) => {
      open(
        method,
        path,
        ask,
        (answer) => {
          const chunks: Buffer[] = [];
          answer.on('data', (chunk: Buffer) => chunks.push(chunk));
          answer.on('error', fail);
          answer.on('end', () =>
            done({ status: answer.statusCode ?? 0, headers: answer.headers, body: Buffer.concat(chunks) }),
          );
        },
        fail,
      );
    });

  const hash: Client['hash'] = (path) =>
    new Promise((done, fail) => {
      open(
        'GET',
        path,
        { headers: { accept: ANY_MANIFEST } },
        (answer) => {
          const sum = createHash('sha256');
          let size = 0;
          answer.on('data', (chunk: Buffer) => {
            size += chunk.length;
            sum.update(chunk);
          });
          answer.on('error', fail);
          answer.on('end', () => done({ status: answer.statusCode ?? 0, size, digest: `sha256:${sum.digest('hex')}` }));
        },
        fail,
      );
    });

  /** The path of an upload's Location, with the digest added where one is given. */
  const location = (answer: Answer, digest?: string): string => {
    const target = new URL(answer.headers.location ?? '', base);
    if (digest !== undefined) target.searchParams.set('digest', digest);
    return target.pathname + target.search;
  };

  const octets = { 'content-type': 'application/octet-stream' };

  const pushBlob: Client['pushBlob'] = async (repository, blob) => {
    const started = await send('POST', `/v2/${repository}/blobs/uploads/`);
    if (started.status !== 202) return started;
    return send('PUT', location(started, blob.digest), { headers: octets, body: blob.bytes });
  };

  const pushChunked: Client['pushChunked'] = async (repository, blob, chunk) => {
    let answer = await send('POST', `/v2/${repository}/blobs/uploads/`);
    for (let at = 0; at < blob.bytes.length; at += chunk) {
      if (answer.status !== 202) return answer;
      const body = blob.bytes.subarray(at, at + chunk);
      const range = { ...octets, 'content-range': `${at}-${at + body.length - 1}` };
      answer = await send('PATCH', location(answer), { headers: range, body });
    }
    if (answer.status !== 202) return answer;
    return send('PUT', location(answer, blob.digest));
  };

  const pushManifest: Client['pushManifest'] = (repository, manifest, tag) =>
    send('PUT', `/v2/${repository}/manifests/${tag ?? manifest.digest}`, {
      headers: { 'content-type': manifest.mediaType },
      body: manifest.bytes,
    });

  const need = (answer: Answer, what: string): void => {
    if (answer.status !== 201) throw new Error(`${what}: ${answer.status} ${answer.body}`);
  };

  return {
    url,
    send,
    hash,
    pushBlob,
    pushChunked,
    mountBlob: (repository, digest, from) =>
      send('POST', `/v2/${repository}/blobs/uploads/?mount=${digest}&from=${from}`),
    pushManifest,
    pushImage: async (repository, pushed, tag) => {
      for (const blob of pushed.blobs) need(await pushBlob(repository, blob), `blob ${blob.digest}`);
      need(await pushManifest(repository, pushed.manifest, tag), `manifest ${pushed.manifest.digest}`);
    },
    close: () => agent.destroy(),
  };
}
