/** crane and regctl in loops beside the workers: copy, pull, push, check and delete, each in repositories of its own. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Client } from '../support/client.ts';
import { digestOf, type Image, runnableImage } from '../support/images.ts';
import type { Choices } from '../support/random.ts';
import { removeFolder, temporaryFolder } from '../support/temp.ts';
import { findTool, run, runAny } from '../support/tools.ts';

/** Where the images lie that the programs copy; nothing is ever deleted there. */
const BASE = 'soak/base';

/** What a loop works with. */
export interface ProgramParts {
  /** `127.0.0.1:PORT` of each instance. */
  readonly hosts: readonly string[];
  readonly http: Client;
  readonly going: () => boolean;
  readonly count: (what: string) => void;
  readonly wrong: (what: string) => void;
}

/** Images that tools take for real ones, over layers that they share. */
export async function pushBase(http: Client): Promise<readonly Image[]> {
  const shared = { 'usr/lib/shared': 'a layer of all'.repeat(20_000) };
  const images = Array.from({ length: 5 }, (_, at) =>
    runnableImage([shared, { [`layer-${at % 2}`]: `half ${at % 2}`.repeat(3_000) }, { own: `image ${at}` }]),
  );
  for (const [at, image] of images.entries()) await http.pushImage(BASE, image, `v${at}`);
  return images;
}

/** The loops of those programs that are there. */
export function programLoops(
  parts: ProgramParts,
  images: readonly Image[],
  random: Choices,
): readonly (() => Promise<void>)[] {
  const crane = findTool('crane');
  const regctl = findTool('regctl');
  const loop = (name: string, once: (at: number, host: string) => Promise<void>) => async (): Promise<void> => {
    while (parts.going()) {
      try {
        await once(random.below(images.length), random.pick(parts.hosts)!);
        parts.count(name);
      } catch (error) {
        if (parts.going()) parts.wrong(`${name}: ${error instanceof Error ? error.message : error}`);
      }
      // Programs take a core each time they start.
      await new Promise((done) => setTimeout(done, 500));
    }
  };
  /** The reference is not there, on any instance. */
  async function isGone(repository: string, reference: string): Promise<void> {
    const answer = await parts.http.send('HEAD', `/v2/${repository}/manifests/${reference}`);
    if (answer.status !== 404)
      throw new Error(`I7: ${repository}:${reference} answers ${answer.status} after its deletion`);
  }
  const loops: (() => Promise<void>)[] = [];
  if (crane !== undefined) {
    const call = (...args: string[]): Promise<string> => run(crane, [...args, '--insecure']);
    loops.push(
      loop('crane', async (at, host) => {
        const { digest } = images[at]!.manifest;
        await call('copy', `${host}/${BASE}:v${at}`, `${host}/soak/crane/copied:v${at}`);
        if ((await call('digest', `${host}/soak/crane/copied:v${at}`)).trim() !== digest)
          throw new Error('another digest');
        const folder = temporaryFolder('crane');
        try {
          await call('pull', '--format=oci', `${host}/soak/crane/copied:v${at}`, join(folder, 'layout'));
          for (const blob of images[at]!.blobs) {
            const bytes = readFileSync(join(folder, 'layout/blobs', blob.digest.replace(':', '/')));
            if (digestOf(bytes) !== blob.digest) throw new Error(`other bytes of ${blob.digest}`);
          }
          await call('push', join(folder, 'layout'), `${host}/soak/crane/pushed:v${at}`);
        } finally {
          removeFolder(folder);
        }
        await call('validate', '--remote', `${host}/soak/crane/pushed:v${at}`);
        for (const repository of ['soak/crane/copied', 'soak/crane/pushed']) {
          await call('delete', `${host}/${repository}@${digest}`);
          await isGone(repository, digest);
        }
      }),
    );
  }
  if (regctl !== undefined) {
    loops.push(
      loop('regctl', async (at, host) => {
        const call = (...args: string[]): Promise<string> =>
          run(regctl, ['--host', `reg=${host},tls=disabled,blobMax=8192,blobChunk=65536`, ...args]);
        const name = `${host}/soak/regctl:v${at}`;
        await call('image', 'copy', `${host}/${BASE}:v${at}`, name);
        await call('image', 'copy', name, `${host}/soak/regctl:again`);
        if ((await call('image', 'digest', name)).trim() !== images[at]!.manifest.digest)
          throw new Error('another digest');
        await call('tag', 'delete', `${host}/soak/regctl:again`);
        await isGone('soak/regctl', 'again');
        await call('manifest', 'delete', '--force-tag-dereference', name);
        await isGone('soak/regctl', `v${at}`);
        const gone = await runAny(regctl, ['--host', `reg=${host},tls=disabled`, 'image', 'digest', name]);
        if (gone.code === 0) throw new Error(`I7: regctl still sees ${name}`);
      }),
    );
  }
  return loops;
}
