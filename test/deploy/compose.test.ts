/**
 * The Compose file: its parts name each other rightly and the program takes its environment; then the same topology,
 * with the same balancer configuration, commands and variables, on this machine without containers.
 */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parse } from 'yaml';
import { loadConfiguration } from '../../src/configuration.ts';
import { postgresBinaries, startPostgres } from '../../src/database/postgres/server.testing.ts';
import { VERSION } from '../../src/version.ts';
import { client } from '../support/client.ts';
import { image, randomPiece } from '../support/images.ts';
import { freePort } from '../support/port.ts';
import { longshoreCommand, ROOT, startLongshore, statusOf } from '../support/server.ts';
import { temporaryFolder } from '../support/temp.ts';
import { run, runAny, withTools } from '../support/tools.ts';
import { type Started, startProgram, withThese } from './support.ts';

const FOLDER = join(ROOT, 'deploy/compose');
const PASSWORD = 'a password of tests';

interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly env_file?: readonly string[];
  readonly secrets?: readonly string[];
  readonly volumes?: readonly string[];
  readonly networks?: readonly string[];
  readonly ports?: readonly string[];
  readonly depends_on?: readonly string[] | Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly [key: string]: unknown;
}
interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly networks: Readonly<Record<string, { internal?: boolean }>>;
  readonly volumes: Readonly<Record<string, object>>;
  readonly secrets: Readonly<Record<string, { readonly file: string }>>;
}

/** As the specification of Compose names them, those that are used here. */
const SERVICE_KEYS = new Set(
  'image command entrypoint environment env_file secrets volumes networks ports depends_on healthcheck restart stop_grace_period stop_signal read_only cap_drop security_opt shm_size'.split(
    ' ',
  ),
);
const CONDITIONS = new Set(['service_started', 'service_healthy', 'service_completed_successfully']);

const text = readFileSync(join(FOLDER, 'compose.yaml'), 'utf8');
/** Variables of the file with their defaults. */
const variables = new Map(
  [...text.matchAll(/(?<!\$)\$\{([A-Z0-9_]+):-([^}]*)\}/g)].map(([, name, value]) => [name, value]),
);
const compose = parse(text.replaceAll(/(?<!\$)\$\{[A-Z0-9_]+:-([^}]*)\}/g, '$1'), { merge: true }) as Compose;

/** The secrets that `prepare.sh` makes, in a folder of their own. */
async function prepared(): Promise<string> {
  const folder = temporaryFolder('compose');
  copyFileSync(join(FOLDER, 'prepare.sh'), join(folder, 'prepare.sh'));
  await run(join(folder, 'prepare.sh'), []);
  return join(folder, 'secrets');
}

/** The environment of a service, its secrets where they are here. */
function environmentOf(name: string, secrets: string): Record<string, string> {
  return Object.fromEntries(
    Object.entries(compose.services[name]?.environment ?? {}).map(([key, value]) => [
      key,
      value.replace('/run/secrets', secrets),
    ]),
  );
}

/** Variables of a file as `env_file` reads it. */
const variablesOf = (file: string): Record<string, string> =>
  Object.fromEntries(
    readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => /^\w+=/.test(line))
      .map((line) => line.split(/=(.*)/s).slice(0, 2) as [string, string]),
  );

test('every part that is named is there, and nothing is there that Compose does not know', () => {
  assert.ok(Object.keys(compose.services).length >= 6);
  const used = { networks: new Set<string>(), volumes: new Set<string>(), secrets: new Set<string>() };
  for (const [name, service] of Object.entries(compose.services)) {
    for (const key of Object.keys(service)) assert.ok(SERVICE_KEYS.has(key), `${name}.${key}`);
    // A short name with a version.
    assert.match(service.image, /^[a-z]+(\/[a-z]+)?:v?\d[\w.]*$/, name);
    for (const network of service.networks ?? []) used.networks.add(network);
    for (const secret of service.secrets ?? []) used.secrets.add(secret);
    for (const volume of service.volumes ?? []) {
      const [source = ''] = volume.split(':');
      if (source.startsWith('.')) assert.ok(existsSync(join(FOLDER, source)), source);
      else used.volumes.add(source);
    }
    const needs = service.depends_on ?? [];
    for (const other of Array.isArray(needs) ? needs : Object.keys(needs)) assert.ok(other in compose.services, other);
    if (!Array.isArray(needs))
      for (const [other, { condition }] of Object.entries(needs as Record<string, { condition: string }>)) {
        assert.ok(CONDITIONS.has(condition), condition);
        if (condition === 'service_healthy') assert.ok(compose.services[other]?.healthcheck !== undefined, other);
      }
    for (const [key, path] of Object.entries(service.environment ?? {}))
      if (key.endsWith('_FILE'))
        assert.ok(service.secrets?.includes(path.replace('/run/secrets/', '')), `${name}: ${key}`);
  }
  for (const kind of ['networks', 'volumes', 'secrets'] as const)
    assert.deepEqual([...used[kind]].sort(), Object.keys(compose[kind]).sort(), kind);
  assert.equal(compose.networks.inside?.internal, true);
  const open = Object.entries(compose.services).filter(([, service]) => service.ports !== undefined);
  assert.deepEqual(
    open.map(([name, { ports }]) => [name, ports]),
    [['balancer', ['127.0.0.1:5000:5000']]],
  );
});

test('.env.example has every variable, with the value it has without', () => {
  const example = variablesOf(join(FOLDER, '.env.example'));
  assert.deepEqual(example, Object.fromEntries(variables));
  assert.equal(example.LONGSHORE_IMAGE, `longshore:${VERSION}`);
});

test('prepare.sh makes every secret once, in a folder of its owner', async () => {
  const secrets = await prepared();
  assert.equal(statSync(secrets).mode & 0o777, 0o700);
  const read = (name: string): string => readFileSync(join(secrets, name), 'utf8');
  for (const { file } of Object.values(compose.secrets)) assert.ok(read(file.replace('./secrets/', '')).length >= 16);
  assert.ok(read('database_url').includes(`:${read('postgres_password')}@postgres:5432/`));
  const first = read('database_url');
  await run(join(secrets, '../prepare.sh'), []);
  assert.equal(read('database_url'), first);
});

test('the program takes the environment of both instances', async () => {
  const secrets = await prepared();
  for (const name of ['longshore-1', 'longshore-2']) {
    const { config } = await loadConfiguration({ environment: environmentOf(name, secrets) });
    assert.equal(config.database.url, readFileSync(join(secrets, 'database_url'), 'utf8'));
    assert.equal(config.storage.driver, 's3');
    assert.equal(config.storage.redirect.enabled, false);
    assert.deepEqual(config.server.trustedProxies, ['172.30.43.0/24']);
  }
});

const engines = { PostgreSQL: (await postgresBinaries()) !== undefined };
await withThese(engines, 'the topology of the Compose file', () =>
  withTools(['haproxy', 'versitygw', 'curl'], 'the topology of the Compose file', (haproxy, versitygw) => {
    test('balancer, two instances, PostgreSQL and S3 together: pushed, pulled, and an instance stopped meanwhile', async () => {
      const secrets = await prepared();
      const database = await startPostgres();
      const started: Started[] = [];
      after(async () => {
        for (const one of started) await one.stop();
        await database.stop();
      });
      const s3Env = variablesOf(join(secrets, 's3.env'));
      const s3Port = await freePort();
      const endpoint = `http://127.0.0.1:${s3Port}`;
      const buckets = temporaryFolder('buckets');
      const s3Command = (compose.services.s3?.command ?? []).map((word) =>
        word === ':7070' ? `127.0.0.1:${s3Port}` : word === '/buckets' ? buckets : word,
      );
      const s3 = { env: { ...s3Env }, cwd: buckets, url: `${endpoint}/health` };
      started.push(await startProgram([versitygw, ...s3Command], s3));
      // Twice: it is there the second time.
      const [shell = '', flag = ''] = compose.services.bucket?.entrypoint ?? [];
      const script = (compose.services.bucket?.command?.[0] ?? '').replaceAll('$$', '$');
      for (const said of [/bucket: 200/, /bucket: 409/]) {
        const made = await runAny(shell, [flag, script], { env: { ...s3Env, ENDPOINT: endpoint } });
        assert.deepEqual([made.code, said.test(made.stdout)], [0, true], made.stdout + made.stderr);
      }

      const url = await database.database('registry');
      const [publicPort, metricsPorts] = [await freePort(), [await freePort(), await freePort()]];
      const balanced = `http://127.0.0.1:${publicPort}`;
      const environment = (at: number): Record<string, string> => {
        const {
          LONGSHORE_DATABASE_URL_FILE: _,
          LONGSHORE_SERVER_LISTEN: __,
          ...own
        } = environmentOf(`longshore-${at + 1}`, secrets);
        return {
          ...own,
          LONGSHORE_DATABASE_URL: url,
          LONGSHORE_STORAGE_S3_ENDPOINT: endpoint,
          LONGSHORE_SERVER_PUBLIC_URL: balanced,
          LONGSHORE_SERVER_METRICS_LISTEN: `127.0.0.1:${metricsPorts[at]}`,
          LONGSHORE_SERVER_TRUSTED_PROXIES: '["127.0.0.1"]',
        };
      };
      const servers = [await startLongshore({ env: environment(0) }), await startLongshore({ env: environment(1) })];
      const cfg = join(FOLDER, 'haproxy.cfg');
      const balancerEnv = {
        LISTEN: `127.0.0.1:${publicPort}`,
        LONGSHORE_1: servers[0]!.host,
        LONGSHORE_2: servers[1]!.host,
      };
      const checked = await runAny(haproxy, ['-c', '-f', cfg], { env: balancerEnv });
      assert.equal(checked.code, 0, checked.stdout + checked.stderr);
      const balancer = { env: balancerEnv, cwd: FOLDER, url: `${balanced}/readyz` };
      started.unshift(await startProgram([haproxy, '-db', '-f', cfg], balancer));

      // As `docker compose exec longshore-1 longshore user add ann`.
      const [program = '', ...args] = [...longshoreCommand(), 'user', 'add', 'ann', '--data', servers[0]!.data];
      const added = await runAny(program, args, { env: environment(0), input: `${PASSWORD}\n` });
      assert.equal(added.code, 0, added.stderr);
      const anybody = client(balanced);
      const ann = client(balanced, { authorization: `Basic ${Buffer.from(`ann:${PASSWORD}`).toString('base64')}` });
      const challenge = await anybody.send('GET', '/v2/');
      assert.equal(challenge.status, 401);
      assert.ok(String(challenge.headers['www-authenticate']).includes(`${balanced}/token`));
      assert.equal(await statusOf(`${balanced}/metrics`), 404);
      assert.equal(await statusOf(`http://127.0.0.1:${metricsPorts[0]}/metrics`), 200);

      const pushed = image({ layers: [randomPiece(8 * 1024 * 1024), randomPiece(100)] });
      await ann.pushImage('team/app', pushed, 'v1');
      const large = randomPiece(6 * 1024 * 1024);
      assert.equal((await ann.pushChunked('team/app', large, 1024 * 1024)).status, 201);
      const spoofed = await ann.send('GET', '/v2/team/app/manifests/v1', {
        headers: { 'x-forwarded-for': '203.0.113.9' },
      });
      assert.equal(spoofed.status, 200);
      const logs = servers.map((server) => server.output()).join('');
      assert.ok(logs.includes('127.0.0.1') && !logs.includes('203.0.113.9'), 'nobody says where he comes from');

      await servers[0]!.stop();
      for (let round = 0; round < 20; round++) {
        assert.equal((await ann.hash('/v2/team/app/manifests/v1')).digest, pushed.manifest.digest);
      }
      for (const { digest } of [...pushed.blobs, large])
        assert.equal((await ann.hash(`/v2/team/app/blobs/${digest}`)).digest, digest);
      await ann.pushImage('team/app', image(), 'v2');
      for (const one of [anybody, ann]) one.close();
      await servers[1]!.stop();
    });
  }),
);
