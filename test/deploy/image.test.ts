/**
 * The container image: built by buildah without a daemon, looked into, and run as a container runtime would run it: as
 * its user, on a read-only root, without any capability. Then the registry in it is given the image itself.
 *
 * Run by unshare, chroot and setpriv rather than by a container runtime: in a container of the test machine's kind
 * crun may neither set limits nor make cgroups.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chownSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { VERSION } from '../../src/version.ts';
import { freePort } from '../support/port.ts';
import { ROOT, statusOf } from '../support/server.ts';
import { temporaryFolder } from '../support/temp.ts';
import { run, runAny, withTools } from '../support/tools.ts';
import { nodeFetched, OWN, packagesFetched, startProgram, withThese } from './support.ts';

const MOST_BYTES = 200 * 1024 ** 2;
const USER = 65532;
const PASSWORD = 'a password of tests';

interface Descriptor {
  readonly digest: string;
  readonly mediaType: string;
  readonly size: number;
  readonly platform?: { readonly architecture: string };
}
interface Manifest {
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly manifests?: readonly Descriptor[];
}
interface ImageConfig {
  readonly architecture: string;
  readonly config: {
    readonly User: string;
    readonly Env: readonly string[];
    readonly Entrypoint: readonly string[];
    readonly Cmd: readonly string[];
    readonly ExposedPorts: object;
    readonly Volumes: object;
    readonly WorkingDir: string;
    readonly StopSignal: string;
    readonly Labels: Readonly<Record<string, string>>;
  };
}

/** A blob of an OCI layout. */
const blobPath = (layout: string, digest: string): string => join(layout, 'blobs', digest.replace(':', '/'));
const blob = <T>(layout: string, digest: string): T => JSON.parse(readFileSync(blobPath(layout, digest), 'utf8')) as T;
const rootOf = (layout: string): Descriptor => {
  const { manifests } = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as Manifest;
  assert.equal(manifests?.length, 1);
  return manifests![0]!;
};

/** Every file below a folder, by its path: kind, mode, owner and what is in it. */
function listing(folder: string, below = ''): Map<string, string> {
  const found = new Map<string, string>();
  for (const name of readdirSync(join(folder, below))) {
    const path = join(below, name);
    const { mode, size } = lstatSync(join(folder, path));
    const kind = mode & 0o170000;
    const content =
      kind === 0o120000
        ? readlinkSync(join(folder, path))
        : kind === 0o100000
          ? `${size} ${createHash('sha256')
              .update(readFileSync(join(folder, path)))
              .digest('hex')}`
          : '';
    found.set(path, `${mode.toString(8)} ${content}`);
    if (kind === 0o040000) for (const [inner, facts] of listing(folder, path)) found.set(inner, facts);
  }
  return found;
}

const PROGRAMS = ['buildah', 'dpkg-deb', 'strip', 'tar', 'unshare', 'setpriv', 'skopeo', 'crane'];
withThese(
  {
    'the administrator (root)': process.getuid?.() === 0,
    'the Debian packages of the image': packagesFetched('amd64') && packagesFetched('arm64'),
    'Node for both architectures': nodeFetched('amd64') && nodeFetched('arm64'),
  },
  'the container image',
  () =>
    withTools(PROGRAMS, 'the container image', (_buildah, _dpkg, _strip, tar, unshare, setpriv, skopeo, crane) => {
      describe('the container image', () => {
        const folder = temporaryFolder('image');
        const layout = join(folder, 'layout');
        const rootfs = join(folder, 'rootfs');
        let manifest: Manifest;
        let config: ImageConfig;
        before(async () => {
          await run(process.execPath, [
            join(ROOT, 'tools/image.ts'),
            ...['--offline', '--arch', 'amd64', '--arch', 'arm64', '--out', `oci:${layout}`, '--tag', 'test'],
          ]);
          const { manifests = [] } = blob<Manifest>(layout, rootOf(layout).digest);
          manifest = blob<Manifest>(layout, manifests.find(({ platform }) => platform?.architecture === OWN)!.digest);
          config = blob<ImageConfig>(layout, manifest.config.digest);
          mkdirSync(rootfs, { mode: 0o755 });
          for (const { digest } of manifest.layers)
            await run(tar, ['-xpzf', blobPath(layout, digest), '-C', rootfs, '--numeric-owner']);
        });

        test('its configuration: the user, the entry, the data, and what it is', () => {
          const { User, Entrypoint, Cmd, ExposedPorts, Volumes, WorkingDir, StopSignal, Labels, Env } = config.config;
          assert.equal(config.architecture, OWN);
          assert.equal(User, `${USER}:${USER}`);
          assert.equal(Entrypoint[0], '/usr/lib/longshore/node');
          assert.equal(Entrypoint.at(-1), '/usr/lib/longshore/dist/main.js');
          assert.deepEqual(Cmd, ['serve']);
          assert.deepEqual(ExposedPorts, { '5000/tcp': {} });
          assert.deepEqual(Volumes, { '/data': {} });
          assert.deepEqual([WorkingDir, StopSignal], ['/data', 'SIGTERM']);
          assert.ok(Env.includes('LONGSHORE_SERVER_LISTEN=0.0.0.0:5000') && Env.includes('LONGSHORE_DATA=/data'));
          assert.equal(Labels['org.opencontainers.image.version'], VERSION);
          assert.equal(Labels['org.opencontainers.image.licenses'], 'Apache-2.0');
          assert.match(Labels['org.opencontainers.image.created'] ?? '', /^\d{4}-\d\d-\d\dT/);
        });

        test('what is in it: two layers, nothing with the rights of another, no shell, licences, and not much', () => {
          assert.equal(manifest.layers.length, 2);
          let bytes = 0;
          for (const path of listing(rootfs).keys()) {
            const { mode, size, uid, gid } = lstatSync(join(rootfs, path));
            const kind = mode & 0o170000;
            if (kind === 0o100000) bytes += size;
            assert.equal(mode & 0o6000, 0, `${path} runs as another`);
            if (kind !== 0o120000 && path !== 'tmp' && path !== 'var/tmp')
              assert.equal(mode & 0o002, 0, `anybody may write ${path}`);
            const owner = path === 'data' ? USER : 0;
            assert.deepEqual([uid, gid], [owner, owner], path);
            assert.ok(
              !/(^|\/)(sh|bash|dash|busybox|apt|dpkg)$/.test(path) || kind === 0o040000,
              `${path} is a program`,
            );
          }
          assert.ok(bytes < MOST_BYTES, `${bytes} bytes`);
          assert.equal(lstatSync(join(rootfs, 'data')).mode & 0o777, 0o700);
          for (const name of readdirSync(join(rootfs, 'var/lib/dpkg/status.d'))) {
            assert.match(readFileSync(join(rootfs, 'var/lib/dpkg/status.d', name), 'utf8'), /^Version: /m);
            assert.ok(lstatSync(join(rootfs, 'usr/share/doc', name)) !== undefined);
          }
          const authorities = readFileSync(join(rootfs, 'etc/ssl/certs/ca-certificates.crt'), 'utf8');
          assert.ok(authorities.split('BEGIN CERTIFICATE').length > 100);
        });

        test('nothing in its layers is of the time at which they were made', async () => {
          const [system] = manifest.layers;
          const listed = await run(tar, ['-tvzf', blobPath(layout, system!.digest), '--full-time', '--utc']);
          const lines = listed.split('\n').filter((line) => line !== '');
          assert.ok(lines.length > 500);
          assert.deepEqual(
            lines.filter((line) => !line.includes(' 1970-01-01 00:00:00 ')),
            [],
          );
        });

        test('the Containerfile makes the same: root file system, environment, user and entry', async () => {
          const other = join(folder, 'other');
          await run(process.execPath, [join(ROOT, 'tools/image.ts'), '--offline', '--rootfs', other]);
          // The bundle is copied by the same lines; another build may have come between.
          const system = (files: Map<string, string>): Map<string, string> =>
            new Map([...files].filter(([path]) => !path.startsWith('usr/lib/longshore/dist/')));
          const own = system(listing(rootfs));
          const theirs = system(listing(other));
          assert.ok(existsSync(join(other, 'usr/lib/longshore/dist/main.js')));
          assert.deepEqual(
            [...theirs].filter(([path, facts]) => own.get(path) !== facts).map(([path]) => path),
            [],
          );
          assert.deepEqual([...own.keys()].filter((path) => !theirs.has(path)).sort(), []);
          const text = readFileSync(join(ROOT, 'deploy/container/Containerfile'), 'utf8');
          const lines = text
            .replaceAll('\\\n', ' ')
            .split('\n')
            .filter((line) => line !== '' && !line.startsWith('#'));
          const said = (word: string): string | undefined =>
            lines
              .filter((line) => line.startsWith(`${word} `))
              .at(-1)
              ?.slice(word.length + 1)
              .trim();
          const { config: built } = config;
          assert.deepEqual(said('ENV')?.split(/\s+/).sort(), [...built.Env].sort());
          assert.equal(said('USER'), built.User);
          assert.equal(said('WORKDIR'), built.WorkingDir);
          assert.deepEqual([said('VOLUME'), said('EXPOSE')], ['/data', '5000/tcp']);
          assert.equal(said('STOPSIGNAL'), built.StopSignal);
          assert.deepEqual(JSON.parse(said('ENTRYPOINT') ?? ''), built.Entrypoint);
          assert.deepEqual(JSON.parse(said('CMD') ?? ''), built.Cmd);
          for (const line of lines)
            assert.match(
              line,
              /^(ARG|FROM|RUN|WORKDIR|COPY|ENV|LABEL|USER|VOLUME|EXPOSE|STOPSIGNAL|HEALTHCHECK|ENTRYPOINT|CMD) /,
            );
        });

        test('it serves as its user on a read-only root, and takes itself in and gives itself back', async () => {
          const data = join(folder, 'data');
          mkdirSync(data, { mode: 0o700 });
          chownSync(data, USER, USER);
          const port = await freePort();
          const url = `http://127.0.0.1:${port}`;
          const env: Record<string, string> = {
            ...Object.fromEntries(
              config.config.Env.map((line) => line.split(/=(.*)/s).slice(0, 2) as [string, string]),
            ),
            LONGSHORE_SERVER_LISTEN: `127.0.0.1:${port}`,
          };
          // As a runtime does: the root bound read-only, the volume and /proc into it, then the user and nothing else.
          const script = `set -e; R=$1; D=$2; shift 2
            mount --bind "$R" "$R"; mount --bind "$D" "$R/data"; mount -o remount,ro,bind "$R"
            mount -t proc proc "$R/proc"; cd /
            exec "$S" --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid chroot --userspec=${USER}:${USER} "$R" "$@"`;
          const contained = (...words: string[]): string[] => [
            ...[unshare, '-m', 'env', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', `S=${setpriv}`],
            ...['sh', '-c', script, 'sh', rootfs, data, ...words],
          ];
          const inside = (input: string, ...words: string[]) => {
            const [program = '', ...args] = contained(...words);
            return runAny(program, args, { env, input });
          };
          const before = await inside('', '/usr/bin/longshore', 'health');
          assert.equal(before.code, 1, before.stderr);
          const server = await startProgram(contained(...config.config.Entrypoint, ...config.config.Cmd), {
            env,
            cwd: folder,
            url: `${url}/readyz`,
          });
          const facts = readFileSync(`/proc/${server.pid}/status`, 'utf8');
          assert.match(facts, new RegExp(`^Uid:\\t${USER}\\t${USER}\\t${USER}\\t${USER}$`, 'm'));
          assert.match(facts, /^CapEff:\t0+$/m);
          assert.match(facts, /^NoNewPrivs:\t1$/m);

          const healthy = await inside('', '/usr/bin/longshore', 'health');
          assert.deepEqual([healthy.code, healthy.stdout], [0, '{"status":"ready"}\n'], healthy.stderr);
          const writing = await inside('', config.config.Entrypoint[0] ?? '', '-e', 'fs.writeFileSync("/here", "")');
          assert.match(writing.stderr, /EROFS/);

          const added = await inside(`${PASSWORD}\n`, '/usr/bin/longshore', 'user', 'add', 'ann');
          assert.equal(added.code, 0, added.stderr);
          assert.equal(await statusOf(`${url}/v2/`), 401);
          const name = `127.0.0.1:${port}/longshore/longshore:${VERSION}`;
          const tls = (side: string): string[] => [`--${side}-tls-verify=false`, `--${side}-creds`, `ann:${PASSWORD}`];
          const policy = ['--insecure-policy'];
          await run(skopeo, [...policy, 'copy', '--all', ...tls('dest'), `oci:${layout}:test`, `docker://${name}`]);
          const back = join(folder, 'back');
          await run(skopeo, [...policy, 'copy', '--all', ...tls('src'), `docker://${name}`, `oci:${back}:test`]);
          assert.equal(rootOf(back).digest, rootOf(layout).digest);
          for (const { digest, size } of manifest.layers) {
            assert.equal(lstatSync(blobPath(back, digest)).size, size);
          }
          const home = join(folder, 'home');
          const login = ['auth', 'login', `127.0.0.1:${port}`, '-u', 'ann', '--password-stdin'];
          await run(crane, login, { env: { HOME: home, DOCKER_CONFIG: home }, input: PASSWORD });
          const digest = await run(crane, ['digest', name], { env: { HOME: home, DOCKER_CONFIG: home } });
          assert.equal(digest.trim(), rootOf(layout).digest);
          assert.equal(await server.stop(), 0, server.output());
        });

        test('it is an index of both architectures, each with Node for it', async () => {
          const { manifests = [] } = blob<Manifest>(layout, rootOf(layout).digest);
          assert.deepEqual(manifests.map(({ platform }) => platform?.architecture).sort(), ['amd64', 'arm64']);
          for (const { digest, platform } of manifests) {
            const each = blob<Manifest>(layout, digest);
            const { architecture, config: own } = blob<ImageConfig>(layout, each.config.digest);
            assert.equal(architecture, platform?.architecture);
            assert.equal(own.User, `${USER}:${USER}`);
            const program = blobPath(layout, each.layers.at(-1)!.digest);
            const header = 'tar -xOzf "$1" usr/lib/longshore/node | head -c 20 | od -An -tx1 | tr -d " \\n"';
            const elf = await run('sh', ['-c', header, 'sh', program]);
            assert.equal(elf.slice(0, 8), '7f454c46');
            assert.equal(elf.slice(36, 40), architecture === 'arm64' ? 'b700' : '3e00');
          }
        });
      });
    }),
);
