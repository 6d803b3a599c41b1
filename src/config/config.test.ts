import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import * as z from 'zod';
import { leaves, type SchemaNode, variableName } from './environment.ts';
import { LIMITS, limitsDocument, SETTABLE } from './limits.ts';
import { ConfigError, hasSettings, loadConfig, masked, testFailpoint } from './load.ts';
import { configSchema, jsonSchema } from './schema.ts';
import { nearest } from './suggest.ts';
import { bytes, duration, secret } from './values.ts';

const folder = mkdtempSync(join(tmpdir(), 'longshore-config-'));
after(() => rmSync(folder, { recursive: true }));

const plain = configSchema({});
const withSecret = configSchema({
  mail: z.strictObject({ password: secret().optional(), host: z.string().optional() }).optional(),
});

function file(text: string, name = 'longshore.yaml'): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

async function problemsOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems.join('\n');
  }
  assert.fail('it was accepted');
}

describe('configuration', () => {
  test('defaults', async () => {
    const { config, files } = await loadConfig(plain, { environment: {} });
    assert.deepEqual(config.server.listen, { host: '127.0.0.1', port: 5000 });
    assert.equal(config.data, './data');
    assert.equal(config.gc.tick, 600_000);
    assert.equal(config.uploads.lifetime, 7 * 86_400_000);
    assert.equal(config.manifests.maxBytes, 4 * 1024 * 1024);
    assert.equal(config.limits.minimumRate, LIMITS.minimumRate.value);
    assert.deepEqual(files, []);
  });

  test('flags before environment before file before defaults, key by key', async () => {
    const path = file('gc: { tick: 1m, graceTicks: 20 }\nserver: { drainSeconds: 1, processes: 2 }\ndata: from-file\n');
    const { config, files } = await loadConfig(plain, {
      file: path,
      environment: { LONGSHORE_GC_GRACE_TICKS: '30', LONGSHORE_DATA: 'from-environment' },
      flags: { data: 'from-flag' },
    });
    assert.equal(config.data, 'from-flag');
    assert.equal(config.gc.graceTicks, 30);
    assert.equal(config.gc.tick, 60_000);
    assert.equal(config.server.processes, 2);
    assert.equal(config.server.notReadySeconds, undefined);
    assert.deepEqual(files, [path]);
  });

  test('LONGSHORE_CONFIG names the file', async () => {
    const path = file('data: elsewhere\n');
    assert.equal((await loadConfig(plain, { environment: { LONGSHORE_CONFIG: path } })).config.data, 'elsewhere');
  });

  test('unknown keys are errors with a suggestion, all at once', async () => {
    const path = file('gc: { graceTick: 20 }\nserver: { tls: { certificat: x } }\nserverr: {}\n');
    const said = await problemsOf(loadConfig(plain, { file: path, environment: { LONGSHORE_GC_GRACETICKS: '2' } }));
    assert.match(said, /gc\.graceTick: no such setting; did you mean graceTicks\?/);
    assert.match(said, /server\.tls\.certificat: no such setting; did you mean certificate\?/);
    assert.match(said, /serverr: no such setting; did you mean server\?/);
    assert.match(said, /LONGSHORE_GC_GRACETICKS: no such setting; did you mean LONGSHORE_GC_GRACE_TICKS\?/);
  });

  test('every key has a variable of its own, and it works', async () => {
    const names = leaves(jsonSchema(plain) as SchemaNode).map((leaf) => variableName(leaf.path));
    assert.equal(new Set(names).size, names.length);
    assert.ok(names.includes('LONGSHORE_SERVER_TRUSTED_PROXIES'));
    const { config } = await loadConfig(plain, {
      environment: {
        LONGSHORE_SERVER_TRUSTED_PROXIES: '["10.0.0.0/8"]',
        LONGSHORE_SERVER_TLS: '{"certificate":"c","key":"k"}',
        LONGSHORE_SERVER_TLS_KEY: 'other',
        LONGSHORE_LOG_ACCESS: 'false',
        LONGSHORE_TRACING_SAMPLE_RATIO: '0.5',
        LONGSHORE_LIMITS_CONNECTIONS_PER_ADDRESS: '7',
      },
    });
    assert.deepEqual(config.server.trustedProxies, ['10.0.0.0/8']);
    assert.equal(config.server.tls?.certificate, 'c');
    assert.equal(config.server.tls?.key, 'other');
    assert.equal(config.log.access, false);
    assert.equal(config.tracing.sampleRatio, 0.5);
    assert.equal(config.limits.connectionsPerAddress, 7);
  });

  test('values that cannot be are refused with their key', async () => {
    const bad: [Record<string, unknown>, RegExp][] = [
      [{ server: { listen: '127.0.0.1' } }, /server\.listen: must be an address and a port/],
      [{ server: { listen: '127.0.0.1:99999' } }, /server\.listen/],
      [{ server: { trustedProxies: ['10.0.0.0/33'] } }, /server\.trustedProxies\.0: must be an address or a range/],
      [{ server: { trustedProxies: ['everyone'] } }, /server\.trustedProxies\.0/],
      [{ server: { tls: { certificate: 'a', key: 'b', requireClientCertificate: true } } }, /needs clientCa/],
      [{ server: { processes: 0 } }, /server\.processes/],
      [{ gc: { tick: '10y' } }, /gc\.tick: must be a whole number and a unit/],
      [{ gc: { tick: '1ms' } }, /gc\.tick: must be between 1s and 1h/],
      [{ manifests: { maxBytes: '5 MiB' } }, /manifests\.maxBytes: must be between 1024 and 4194304 bytes/],
      [{ access: { anonymous: 'all' } }, /access\.anonymous/],
      [{ tracing: { sampleRatio: 2 } }, /tracing\.sampleRatio/],
      [{ limits: { manifestBytes: 1 } }, /limits\.manifestBytes: no such setting/],
    ];
    for (const [given, said] of bad) {
      assert.match(await problemsOf(loadConfig(plain, { flags: given, environment: {} })), said);
    }
    const few = await problemsOf(
      loadConfig(plain, { environment: { LONGSHORE_SERVER_TRUSTED_PROXIES: '10.0.0.0/8' } }),
    );
    assert.match(few, /LONGSHORE_SERVER_TRUSTED_PROXIES: must be JSON/);
  });

  test('a file that is not there, not YAML, not a map, twice the same key, or too large is refused', async () => {
    assert.match(await problemsOf(loadConfig(plain, { file: join(folder, 'none') })), /there is no such file/);
    assert.match(await problemsOf(loadConfig(plain, { file: file('a: [') })), /longshore\.yaml/);
    assert.match(await problemsOf(loadConfig(plain, { file: file('- a\n') })), /must be a map/);
    assert.match(await problemsOf(loadConfig(plain, { file: file('data: a\ndata: b\n') })), /unique/);
    assert.match(
      await problemsOf(loadConfig(plain, { file: file(`# ${'x'.repeat(1 << 20)}\n`) })),
      /larger than 1 MiB/,
    );
    const bomb = file(
      'a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n',
    );
    assert.match(await problemsOf(loadConfig(plain, { file: bomb })), /alias/i);
  });

  test('secrets come from files and are masked', async () => {
    const path = file('canary-3141\n', 'password.txt');
    for (const sources of [
      { environment: { LONGSHORE_MAIL_PASSWORD_FILE: path } },
      { environment: {}, file: file('mail: { password: { file: password.txt } }\n') },
    ]) {
      const { config, files } = await loadConfig(withSecret, sources);
      const mail = (config as { mail?: { password?: string } }).mail;
      assert.equal(mail?.password, 'canary-3141');
      assert.ok(files.includes(path));
      const shown = JSON.stringify(masked(config, jsonSchema(withSecret) as SchemaNode));
      assert.doesNotMatch(shown, /canary/);
      assert.match(shown, /"password":"\*\*\*"/);
    }
    const listed = await loadConfig(plain, {
      environment: {},
      file: file(
        'heal: { registries: [{ url: "https://r.example", username: u, password: { file: password.txt } }], storages: [{ driver: azure, azure: { container: abc, accountKey: canary } }] }\n',
      ),
    });
    const { registries } = (listed.config as { heal: { registries: { password: string }[] } }).heal;
    assert.equal(registries[0]?.password, 'canary-3141');
    const lists = JSON.stringify(masked(listed.config, jsonSchema(plain) as SchemaNode));
    assert.doesNotMatch(lists, /canary/, 'secrets in lists');
    assert.equal(lists.match(/"\*\*\*"/g)?.length, 2);
    const missing = loadConfig(withSecret, { environment: { LONGSHORE_MAIL_PASSWORD_FILE: join(folder, 'gone') } });
    assert.match(await problemsOf(missing), /LONGSHORE_MAIL_PASSWORD_FILE: .*no such file/);
    const notSecret = loadConfig(withSecret, { environment: { LONGSHORE_MAIL_HOST_FILE: path } });
    assert.match(await problemsOf(notSecret), /LONGSHORE_MAIL_HOST_FILE: no such setting/);
  });

  test('an address that is shown holds no credentials and no query', async () => {
    for (const [key, well] of [
      ['LONGSHORE_SERVER_PUBLIC_URL', 'https://registry.example.org/sub'],
      ['LONGSHORE_TRACING_ENDPOINT', 'http://127.0.0.1:4318/v1/traces'],
      ['LONGSHORE_STORAGE_S3_ENDPOINT', 'http://[::1]:9000'],
      ['LONGSHORE_STORAGE_GCS_ENDPOINT', 'http://127.0.0.1:4443'],
      ['LONGSHORE_STORAGE_AZURE_ENDPOINT', 'https://account.example.org'],
    ] as const) {
      const rest = {
        LONGSHORE_STORAGE_S3_BUCKET: 'bucket',
        LONGSHORE_STORAGE_GCS_BUCKET: 'bucket',
        LONGSHORE_STORAGE_AZURE_CONTAINER: 'container',
      };
      await loadConfig(plain, { environment: { ...rest, [key]: well } });
      for (const bad of [
        'https://canary@host.example/',
        'https://user:canary@host.example/',
        'https://:canary@host.example/',
        'https://host.example/?sig=canary',
        'https://host.example/#canary',
      ]) {
        const said = await problemsOf(loadConfig(plain, { environment: { ...rest, [key]: bad } }));
        assert.match(said, /must hold no/, `${key}=${bad}`);
        assert.doesNotMatch(said, /canary/);
      }
    }
    const registry = (url: string) =>
      loadConfig(plain, { environment: {}, file: file(`heal: { registries: [{ url: "${url}" }] }\n`) });
    await registry('https://registry.example.org');
    assert.match(await problemsOf(registry('https://user:canary@registry.example.org')), /must hold no name/);
  });

  test('the JSON schema describes every key and forbids others', () => {
    const schema = jsonSchema(plain) as SchemaNode & { additionalProperties?: unknown };
    assert.equal(schema.additionalProperties, false);
    const bare = leaves(schema).filter(
      (leaf) => leaf.node.description === undefined && leaf.path.join('.') !== 'storage.fs',
    );
    assert.deepEqual(
      bare.map((leaf) => leaf.path.join('.')),
      [],
    );
  });

  test('two sections of one name are a mistake in the program', () => {
    assert.throws(() => configSchema({ server: z.strictObject({}) }), /server/);
  });

  test('only settings count as settings', () => {
    assert.equal(hasSettings({ PATH: 'x', LONGSHORE_TEST_FAILPOINT: 'a:1' }), false);
    assert.equal(hasSettings({ LONGSHORE_CONFIG: 'x' }), true);
    assert.deepEqual(testFailpoint({ LONGSHORE_TEST_FAILPOINT: 'fs.link.before:3' }), {
      name: 'fs.link.before',
      count: 3,
    });
    assert.equal(testFailpoint({ LONGSHORE_TEST_FAILPOINT: 'fs.link.before' }), undefined);
    assert.equal(testFailpoint({}), undefined);
  });
});

describe('values', () => {
  test('durations and sizes', () => {
    const time = duration({ least: 0, most: 1e12 });
    assert.deepEqual(
      ['0s', '500ms', '10m', '36h', '7d'].map((text) => time.parse(text)),
      [0, 500, 600_000, 129_600_000, 604_800_000],
    );
    for (const text of ['', '10', '1.5h', '-1s', '1 h', '10M']) assert.equal(time.safeParse(text).success, false, text);
    const size = bytes({ least: 0, most: 2 ** 50 });
    assert.deepEqual(
      [5, '5 B', '4 MiB', '1GiB'].map((text) => size.parse(text)),
      [5, 5, 4 * 2 ** 20, 2 ** 30],
    );
    for (const text of ['', '4 MB', '1.5 MiB', -1, '4mib'])
      assert.equal(size.safeParse(text).success, false, String(text));
  });

  test('suggestions', () => {
    assert.equal(nearest('lisen', ['listen', 'data']), 'listen');
    assert.equal(nearest('tikc', ['tick', 'grace']), 'tick');
    assert.equal(nearest('something', ['tick', 'grace']), undefined);
    assert.equal(nearest('x'.repeat(10_000), ['tick']), undefined);
  });
});

describe('limits', () => {
  test('defaults lie within their own bounds, and the document has every one', () => {
    const document = limitsDocument();
    for (const limit of SETTABLE) {
      assert.ok(limit.value >= limit.settable.least && limit.value <= limit.settable.most, limit.name);
    }
    for (const name of Object.keys(LIMITS)) assert.ok(document.includes(`\`${name}\``), name);
  });
});
