/**
 * Builds the container image with buildah, without a daemon, a base image or a registry: the few Debian packages that
 * Node is linked with as one layer, Node and the bundle as another.
 *
 *   node tools/image.ts [--arch amd64|arm64]… [--tag TAG] [--out oci:FOLDER] [--offline]
 *   node tools/image.ts --fetch [--arch …]     only fetches packages and Node, into `.cache`
 *   node tools/image.ts --rootfs FOLDER        only makes the root file system, without buildah: for the Containerfile
 *
 * Gives an OCI layout; with two architectures an index of both. The packages are the newest that apt's sources have;
 * `--offline` takes those that were fetched last. The same packages and the same sources give the same digests
 * (SOURCE_DATE_EPOCH sets the time of the image; absent, that of the last commit).
 *
 * Not the single-file executable, which is as large: it evaluates all of the program at its start, twice the work and
 * 27 MiB more of memory.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  globSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { THREADS } from '../src/kit/thread.ts';
import { VERSION } from '../src/version.ts';
import { type Architecture, architecturesOf, FLAGS, nodeOf, own, run } from './node.ts';

const root = resolve(import.meta.dirname, '..');
const cache = join(root, '.cache/image');

/** What Node is linked with, the authorities, and what libc and scanners look for in a root file system. */
const PACKAGES = [
  'base-files',
  'ca-certificates',
  'libatomic1',
  'libc6',
  'libgcc-s1',
  'libstdc++6',
  'netbase',
  'tzdata',
] as const;
/** Of the packages: manuals, translations, and converters between character sets, none of which is ever opened. */
const PRUNED = [
  'usr/share/{man,info,lintian,locale,bug,base-files}',
  'usr/lib/*/{gconv,audit}',
  'etc/{default,profile.d,update-motd.d,dpkg,ld.so.conf.d,kernel}',
  'usr/{sbin,games,src,local}',
  'var/{local,mail,opt,spool,backups,lock}',
  '{boot,home,media,mnt,opt,srv,sbin}',
  // One file of all of them is made below.
  'usr/share/ca-certificates',
];
/** The user that the server runs as, as in other images without a shell. */
const USER = '65532:65532';

const { values } = parseArgs({
  options: {
    arch: { type: 'string', multiple: true },
    tag: { type: 'string', default: VERSION },
    out: { type: 'string', default: `oci:${join(root, 'dist/image')}` },
    fetch: { type: 'boolean', default: false },
    rootfs: { type: 'string' },
    offline: { type: 'boolean', default: false },
  },
});
const architectures = architecturesOf(values.arch);

/** Where an architecture's packages lie once fetched. */
const packagesOf = (architecture: Architecture): string => join(cache, architecture);

/** Fetches the newest packages. apt, which checks them, gets lists of its own: the machine's stay as they are. */
function fetchPackages(architecture: Architecture): void {
  const state = join(cache, `apt-${architecture}`);
  for (const folder of ['lists/partial', 'archives/partial']) mkdirSync(join(state, folder), { recursive: true });
  const options = [
    '-q',
    `-oAPT::Architecture=${architecture}`,
    `-oAPT::Architectures::=${architecture}`,
    `-oDir::State=${state}`,
    '-oDir::State::status=/dev/null',
    `-oDir::Cache=${state}`,
    '-oAPT::Sandbox::User=root',
  ];
  run('apt-get', [...options, 'update']);
  const folder = `${packagesOf(architecture)}.new`;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  run('apt-get', [...options, 'download', ...PACKAGES], folder);
  // The licences of the compiler's libraries, in a package with the compiler's version in its name.
  const [library = ''] = readdirSync(folder).filter((name) => name.startsWith('libgcc-s1_'));
  const licences = /gcc-\d+-base/.exec(run('dpkg-deb', ['-f', join(folder, library), 'Depends']))?.[0];
  if (licences !== undefined) run('apt-get', [...options, 'download', licences], folder);
  rmSync(packagesOf(architecture), { recursive: true, force: true });
  cpSync(folder, packagesOf(architecture), { recursive: true });
  rmSync(folder, { recursive: true });
}

/** The fetched package files. */
function fetched(architecture: Architecture): string[] {
  const files = existsSync(packagesOf(architecture)) ? readdirSync(packagesOf(architecture)).sort() : [];
  for (const name of PACKAGES)
    if (!files.some((file) => file.startsWith(`${name}_`)))
      throw new Error(`${name} for ${architecture} was not fetched: node tools/image.ts --fetch`);
  return files.map((file) => join(packagesOf(architecture), file));
}

/** Assembles the root file system without the program. */
function assemble(architecture: Architecture, folder: string): void {
  mkdirSync(folder);
  chmodSync(folder, 0o755);
  const status = join(folder, 'var/lib/dpkg/status.d');
  for (const file of fetched(architecture)) {
    run('dpkg-deb', ['-x', file, folder]);
    // Where scanners of images look for what is installed.
    mkdirSync(status, { recursive: true });
    writeFileSync(join(status, basename(file).split('_')[0] ?? ''), run('dpkg-deb', ['-f', file]));
  }
  const authorities = globSync('usr/share/ca-certificates/**/*.crt', { cwd: folder }).sort();
  mkdirSync(join(folder, 'etc/ssl/certs'), { recursive: true });
  writeFileSync(
    join(folder, 'etc/ssl/certs/ca-certificates.crt'),
    authorities.map((path) => `${readFileSync(join(folder, path), 'utf8').trimEnd()}\n`).join(''),
  );
  for (const path of globSync(PRUNED, { cwd: folder })) rmSync(join(folder, path), { recursive: true, force: true });
  // Licences stay, the rest of the documentation does not.
  for (const path of globSync('usr/share/doc/**/*', { cwd: folder }))
    if (basename(path) !== 'copyright' && lstatSync(join(folder, path)).isFile()) rmSync(join(folder, path));
  const files: Readonly<Record<string, string>> = {
    'etc/passwd':
      'root:x:0:0:root:/root:/usr/sbin/nologin\nlongshore:x:65532:65532:longshore:/data:/usr/sbin/nologin\n',
    'etc/group': 'root:x:0:\nlongshore:x:65532:\n',
    'etc/nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n',
  };
  for (const [path, text] of Object.entries(files)) writeFileSync(join(folder, path), text);
  mkdirSync(join(folder, 'tmp'), { recursive: true });
  chmodSync(join(folder, 'tmp'), 0o1777);
}

/** Where Node and the bundle lie in the image. */
const HOME = '/usr/lib/longshore';
const ENTRY = [`${HOME}/node`, ...FLAGS, `${HOME}/dist/main.js`];
const ENVIRONMENT = { UV_THREADPOOL_SIZE: '16', MALLOC_ARENA_MAX: '1' };

/** The bundle's files: the entries, and what they import. The folder keeps the chunks of builds before for a while. */
function bundled(): string[] {
  const dist = join(root, 'dist');
  const wanted = ['main.js', ...THREADS.map((name) => `${name}.js`), 'query-builder.cjs'];
  for (const name of wanted)
    for (const [chunk] of readFileSync(join(dist, name), 'utf8').matchAll(/\bchunk-[A-Z0-9]{8}\.js\b/g))
      if (!wanted.includes(chunk)) wanted.push(chunk);
  return wanted;
}

/** Puts the program into a folder that becomes a layer. */
function install(architecture: Architecture, folder: string): void {
  const home = join(folder, HOME);
  mkdirSync(join(home, 'dist'), { recursive: true });
  mkdirSync(join(folder, 'usr/bin'), { recursive: true });
  copyFileSync(nodeOf(architecture), join(home, 'node'));
  chmodSync(join(home, 'node'), 0o755);
  // Its symbols are a fifth of it; another machine's programs need that machine's strip.
  if (architecture === own) spawnSync('strip', [join(home, 'node')]);
  writeFileSync(join(home, 'package.json'), `${JSON.stringify({ type: 'module' })}\n`);
  for (const name of bundled()) copyFileSync(join(root, 'dist', name), join(home, 'dist', name));
  copyFileSync(join(root, 'LICENSE'), join(home, 'LICENSE'));
  // For commands in a running container: there is no shell that could set what the entry point has set.
  writeFileSync(
    join(folder, 'usr/bin/longshore'),
    `#!${ENTRY[0]} --disable-warning=ExperimentalWarning
process.execve(${JSON.stringify(ENTRY[0])}, [...${JSON.stringify(ENTRY)}, ...process.argv.slice(2)],
  { ...${JSON.stringify(ENVIRONMENT)}, ...process.env });
`,
    { mode: 0o755 },
  );
}

/** Seconds since 1970 that the image claims to be of. */
function epoch(): string {
  const given = process.env.SOURCE_DATE_EPOCH;
  if (given !== undefined && /^\d{1,12}$/.test(given)) return given;
  const asked = spawnSync('git', ['log', '-1', '--format=%ct'], { cwd: root, encoding: 'utf8' });
  return asked.status === 0 ? asked.stdout.trim() : '0';
}

function revision(): string | undefined {
  const asked = spawnSync('git', ['rev-parse', 'HEAD'], { cwd: root, encoding: 'utf8' });
  return asked.status === 0 ? asked.stdout.trim() : undefined;
}

/** Builds the image of an architecture in buildah's store; gives its name there. */
function build(architecture: Architecture, folder: string, buildah: (...args: string[]) => string): string {
  const time = epoch();
  const system = join(folder, `root-${architecture}`);
  assemble(architecture, system);
  const base = buildah('from', '--arch', architecture, '--pull-never', 'scratch').trim();
  buildah('add', '--chown', '0:0', base, system, '/');
  buildah('config', '--arch', architecture, '--os', 'linux', '--created-by', `Debian: ${PACKAGES.join(' ')}`, base);
  // A time of its own: a new version of the program leaves this layer as it is, and machines that have it.
  buildah('commit', '--format', 'oci', '--timestamp', '0', '--rm', base, `base-${architecture}`);

  const container = buildah('from', '--arch', architecture, '--pull-never', `localhost/base-${architecture}`).trim();
  const program = join(folder, `program-${architecture}`);
  mkdirSync(program, { mode: 0o755 });
  install(architecture, program);
  buildah('add', '--chown', '0:0', container, program, '/');
  // Inside a folder of its own, so that its mode is kept: what is named itself is always made with 0755.
  const around = join(folder, `data-${architecture}`);
  mkdirSync(around, { mode: 0o755 });
  mkdirSync(join(around, 'data'), { mode: 0o700 });
  buildah('add', '--chown', USER, container, around, '/');
  const settings: Readonly<Record<string, string>> = {
    PATH: '/usr/bin:/bin',
    LONGSHORE_DATA: '/data',
    LONGSHORE_SERVER_LISTEN: '0.0.0.0:5000',
    ...ENVIRONMENT,
  };
  const commit = revision();
  const labels: Readonly<Record<string, string>> = {
    'org.opencontainers.image.title': 'Longshore',
    'org.opencontainers.image.description': 'A self-hosted container registry.',
    'org.opencontainers.image.version': VERSION,
    'org.opencontainers.image.licenses': 'Apache-2.0',
    'org.opencontainers.image.created': new Date(Number(time) * 1000).toISOString(),
    ...(commit === undefined ? {} : { 'org.opencontainers.image.revision': commit }),
  };
  const pairs = (flag: string, all: Readonly<Record<string, string>>): string[] =>
    Object.entries(all).flatMap(([name, value]) => [flag, `${name}=${value}`]);
  buildah(
    'config',
    ...['--arch', architecture, '--os', 'linux', '--user', USER, '--workingdir', '/data', '--volume', '/data'],
    ...['--port', '5000/tcp', '--stop-signal', 'SIGTERM', '--entrypoint', JSON.stringify(ENTRY), '--cmd', 'serve'],
    ...['--created-by', `longshore ${VERSION}`],
    ...pairs('--env', settings),
    ...pairs('--label', labels),
    container,
  );
  const name = `longshore-${architecture}`;
  buildah('commit', '--format', 'oci', '--timestamp', time, '--rm', container, name);
  for (const done of [system, program]) rmSync(done, { recursive: true, force: true });
  return `localhost/${name}`;
}

function buildAll(): void {
  if (!values.out.startsWith('oci:') || values.out.length < 5) throw new Error('--out is oci:FOLDER');
  if (!/^[\w][\w.-]{0,127}$/.test(values.tag)) throw new Error(`--tag ${values.tag} is not a tag`);
  const layout = resolve(values.out.slice(4));
  mkdirSync(resolve(layout, '..'), { recursive: true });
  const folder = mkdtempSync(join(tmpdir(), 'longshore-image-'));
  const store = ['--storage-driver', 'vfs', '--root', join(folder, 'store'), '--runroot', join(folder, 'run')];
  const buildah = (...args: string[]): string => run('buildah', [...store, ...args], folder);
  try {
    const images = architectures.map((architecture) => build(architecture, folder, buildah));
    const target = `oci:${layout}:${values.tag}`;
    if (images.length === 1) buildah('push', '--quiet', images[0] ?? '', target);
    else {
      buildah('manifest', 'create', 'longshore', ...images);
      buildah('manifest', 'push', '--quiet', '--all', '--format', 'oci', 'localhost/longshore', target);
    }
    process.stdout.write(`${target}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (values.fetch || !values.offline) {
  for (const architecture of architectures) {
    fetchPackages(architecture);
    nodeOf(architecture);
  }
}
if (!values.fetch) {
  run(process.execPath, [join(root, 'tools/prepare.mjs'), 'run']);
  if (values.rootfs === undefined) buildAll();
  else {
    const [architecture = own] = architectures;
    const folder = resolve(values.rootfs);
    assemble(architecture, folder);
    install(architecture, folder);
    mkdirSync(join(folder, 'data'), { mode: 0o700 });
  }
}
