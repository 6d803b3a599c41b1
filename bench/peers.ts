/** How each peer is configured and started: files, loopback only, deletes allowed, an access log in a file where it has one. */
import { execFileSync } from 'node:child_process';
import { createPrivateKey, sign, X509Certificate } from 'node:crypto';
import { accessSync, constants, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { hash } from 'bcryptjs';
import { openClient } from './client.ts';
import { end, freePort, launch, untilUp } from './processes.ts';
import type { Context, Peer, PeerName, Tools } from './types.ts';

/** The checkout. */
export const ROOT = resolve(import.meta.dirname, '..');
const LONGSHORE = join(ROOT, 'bin/longshore');
/** The repository that tokens of this file may pull from. */
export const SECURED_REPOSITORY = 'bench/small';

/** How a peer is started. */
export interface Start {
  /** With a certificate of its own for 127.0.0.1. */
  readonly tls?: boolean;
  /** With Bearer tokens that are verified: `secured` of the peer is set. */
  readonly tokens?: boolean;
  /** Longshore: settings besides those of every run. */
  readonly config?: object;
  /** Distribution: the section `storage` instead of files. */
  readonly storage?: object;
  /** Longshore: by flags alone, as `npm start` does; its access log, on standard output, goes to a file too. */
  readonly bare?: boolean;
  /** Its data folder; absent: a new one. */
  readonly data?: string;
}

let counter = 0;

/** A new folder of the run. */
export function folderFor(context: Context, name: string): string {
  const folder = join(context.folder, `${name}-${counter++}`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return folder;
}

/** The program in one of these folders; absent: those of PATH. */
function find(program: string, folders = (process.env.PATH ?? '').split(delimiter)): string | undefined {
  return folders
    .map((folder) => join(folder, program))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** What is there to measure with and against. */
export function findTools(): Tools {
  return {
    wrk: find('wrk'),
    curl: find('curl'),
    openssl: find('openssl'),
    distribution: find('registry', [join(ROOT, '.cache/bin')]),
    zot: find('zot'),
    olareg: find('olareg'),
  };
}

/** A key and a certificate for 127.0.0.1 that is its own authority. */
export function certificate(context: Context): { readonly key: string; readonly certificate: string } {
  const openssl = context.tools.openssl;
  if (openssl === undefined) throw new Error('openssl is not there: install it for rows with TLS and tokens');
  const folder = folderFor(context, 'certificate');
  const [key, file] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost'];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '3'];
  execFileSync(openssl, ['req', '-x509', ...kind, ...subject, '-keyout', key, '-out', file], { stdio: 'pipe' });
  return { key, certificate: file };
}

async function place(context: Context, name: PeerName, tls: boolean | undefined) {
  const folder = folderFor(context, name);
  const port = await freePort();
  const host = `127.0.0.1:${port}`;
  const own = tls === true ? certificate(context) : undefined;
  const ca = own === undefined ? {} : { ca: own.certificate };
  return { folder, data: join(folder, 'data'), output: join(folder, 'output.log'), port, host, own, ca };
}

type Place = Awaited<ReturnType<typeof place>>;

async function run(name: PeerName, at: Place, program: string, args: readonly string[]): Promise<Peer> {
  const url = `${at.own === undefined ? 'http' : 'https'}://${at.host}`;
  const child = launch(program, args, at.output);
  await untilUp(child, url, at.output);
  return {
    name,
    url,
    pid: child.pid ?? 0,
    data: at.data,
    ...at.ca,
    stop: async () => {
      await end(child);
      rmSync(at.folder, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}

/** The configuration file and arguments with which Longshore is measured: durability full, the access log to a file. */
export async function longshoreArguments(context: Context, start: Start = {}) {
  const placed = await place(context, 'longshore', start.tls);
  const at = { ...placed, data: start.data ?? placed.data };
  const flags = ['serve', '--listen', at.host, '--data', at.data];
  if (start.bare === true) return { at, program: LONGSHORE, args: flags, password: '' };
  const users = join(at.folder, 'htpasswd');
  const password = 'bench-password';
  const access: { anonymous: string; htpasswd?: string; tokens?: object } = { anonymous: 'push' };
  if (start.tokens === true) {
    writeFileSync(users, `bench:${await hash(password, 10)}\n`, { mode: 0o600 });
    access.htpasswd = users;
    access.tokens = { lifetimeSeconds: 86_400 };
  }
  const config = {
    server: at.own === undefined ? {} : { tls: { certificate: at.own.certificate, key: at.own.key } },
    storage: { durability: 'full' },
    log: { access: join(at.folder, 'access.log') },
    access,
    ...start.config,
  };
  const file = join(at.folder, 'longshore.yaml');
  // YAML reads JSON.
  writeFileSync(file, JSON.stringify(config));
  return { at, program: LONGSHORE, args: [...flags, '--config', file], password };
}

/** The bundle, by `bin/longshore`. */
export async function startLongshore(context: Context, start: Start = {}): Promise<Peer> {
  const { at, program, args, password } = await longshoreArguments(context, start);
  const peer = await run('longshore', at, program, args);
  if (start.tokens !== true) return peer;
  const client = openClient(peer.url, at.ca);
  const scope = encodeURIComponent(`repository:${SECURED_REPOSITORY}:pull`);
  const headers = { authorization: `Basic ${Buffer.from(`bench:${password}`).toString('base64')}` };
  const answer = await client.ask('GET', `/token?service=longshore&scope=${scope}`, { headers });
  client.close();
  const { token } = JSON.parse(answer.body.toString()) as { token: string };
  return { ...peer, secured: { url: peer.url, pid: peer.pid, token } };
}

/** Distribution's configuration file and arguments. Its access log goes to its standard output, a file here. */
export async function distributionArguments(context: Context, start: Start & { auth?: object } = {}) {
  const { distribution } = context.tools;
  if (distribution === undefined) throw new Error('Distribution is not there: npm run test:setup builds it');
  const at = await place(context, 'distribution', start.tls);
  const data = start.data ?? at.data;
  const file = join(at.folder, 'config.yml');
  const config = {
    version: '0.1',
    log: { level: 'error' },
    storage: start.storage ?? { filesystem: { rootdirectory: data }, delete: { enabled: true } },
    http: {
      addr: at.host,
      secret: 'bench',
      ...(at.own === undefined ? {} : { tls: { certificate: at.own.certificate, key: at.own.key } }),
    },
    ...(start.auth === undefined ? {} : { auth: start.auth }),
  };
  writeFileSync(file, JSON.stringify(config));
  return { at: { ...at, data }, program: distribution, args: ['serve', file] };
}

/** Distribution; with `tokens` a second process of it over the same files, which verifies them. */
export async function startDistribution(context: Context, start: Start = {}): Promise<Peer> {
  const { at, program, args } = await distributionArguments(context, start);
  const peer = await run('distribution', at, program, args);
  if (start.tokens !== true) return peer;
  const own = certificate(context);
  const auth = {
    token: { realm: 'http://127.0.0.1/token', service: 'bench', issuer: 'bench', rootcertbundle: own.certificate },
  };
  const second = await distributionArguments(context, { data: at.data, auth });
  const secured = await run('distribution', second.at, second.program, second.args);
  return {
    ...peer,
    secured: { url: secured.url, pid: secured.pid, token: tokenFor(own) },
    stop: async () => {
      await secured.stop();
      await peer.stop();
    },
  };
}

/** A token as Distribution's documentation describes it: ES256, the certificate in `x5c`. */
function tokenFor(own: { readonly key: string; readonly certificate: string }): string {
  const seconds = Math.floor(Date.now() / 1000);
  const der = new X509Certificate(readFileSync(own.certificate)).raw.toString('base64');
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const head = part({ typ: 'JWT', alg: 'ES256', x5c: [der] });
  const body = part({
    iss: 'bench',
    sub: 'bench',
    aud: 'bench',
    exp: seconds + 86_400,
    nbf: seconds - 60,
    iat: seconds - 60,
    jti: 'bench',
    access: [{ type: 'repository', name: SECURED_REPOSITORY, actions: ['pull'] }],
  });
  const key = createPrivateKey(readFileSync(own.key));
  const signature = sign('sha256', Buffer.from(`${head}.${body}`), { key, dsaEncoding: 'ieee-p1363' });
  return `${head}.${body}.${signature.toString('base64url')}`;
}

/** zot, minimal, and with `commit` so that it syncs what it acknowledges, as Longshore does. */
export async function startZot(context: Context, start: Start = {}): Promise<Peer> {
  const at = await place(context, 'zot', start.tls);
  const file = join(at.folder, 'config.json');
  const tls = at.own === undefined ? {} : { tls: { cert: at.own.certificate, key: at.own.key } };
  const config = {
    distSpecVersion: '1.1.1',
    storage: { rootDirectory: at.data, commit: true, gc: false },
    http: { address: '127.0.0.1', port: String(at.port), ...tls },
    log: { level: 'error' },
  };
  writeFileSync(file, JSON.stringify(config));
  return run('zot', at, context.tools.zot!, ['serve', file]);
}

/** olareg, which syncs nothing. */
export async function startOlareg(context: Context): Promise<Peer> {
  const at = await place(context, 'olareg', false);
  mkdirSync(at.data, { recursive: true });
  const args = ['serve', '--addr', '127.0.0.1', '--port', String(at.port), '--dir', at.data];
  return run('olareg', at, context.tools.olareg!, args);
}

/** An empty node:http server that answers what `answers` (a JSON file of path → answer) says. */
export async function startBare(context: Context, answers: object): Promise<Peer> {
  const at = await place(context, 'bare', false);
  const file = join(at.folder, 'answers.json');
  writeFileSync(file, JSON.stringify(answers));
  const peer = await run('bare', at, process.execPath, [join(import.meta.dirname, 'bare.ts'), String(at.port), file]);
  return { ...peer, secured: { url: peer.url, pid: peer.pid, token: 'x'.repeat(500) } };
}

/** The folder in which the kernel keeps nothing of ours: what stands for the machine itself. */
export function machinePeer(context: Context): Peer {
  const data = folderFor(context, 'machine');
  return {
    name: 'machine',
    url: '',
    pid: 0,
    data,
    stop: async () => rmSync(data, { recursive: true, force: true }),
  };
}

/** All peers that are there, each on an empty folder. One that does not start ends the others and throws, but for zot and olareg, which are left out. */
export async function startPeers(context: Context, start: Start = {}, others = true): Promise<Peer[]> {
  const peers: Peer[] = [];
  try {
    peers.push(await startLongshore(context, start));
    if (context.tools.distribution !== undefined) peers.push(await startDistribution(context, start));
    if (!others) return peers;
    const optional: [string | undefined, () => Promise<Peer>][] = [
      [context.tools.zot, () => startZot(context, start)],
      [start.tls === true ? undefined : context.tools.olareg, () => startOlareg(context)],
    ];
    for (const [program, starting] of optional) {
      if (program === undefined) continue;
      try {
        peers.push(await starting());
      } catch (error) {
        context.say(`left out: ${error instanceof Error ? error.message : error}`);
      }
    }
    return peers;
  } catch (error) {
    await Promise.allSettled(peers.map((peer) => peer.stop()));
    throw error;
  }
}
