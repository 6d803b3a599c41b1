/** The Helm chart: linted, rendered for several installations, and what comes out held against what it promises. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseAllDocuments, parse as parseYaml } from 'yaml';
import { loadConfiguration } from '../../src/configuration.ts';
import { VERSION } from '../../src/version.ts';
import { ROOT } from '../support/server.ts';
import { temporaryFolder } from '../support/temp.ts';
import { run, runAny, withTools } from '../support/tools.ts';

const CHART = join(ROOT, 'deploy/helm/longshore');
const EXAMPLES = ['single', 'fleet', 'everything'] as const;
const valuesOf = (name: string): string => join(CHART, 'ci', `${name}-values.yaml`);

// What is looked at of a Kubernetes object; a test fails where something is not there.
interface Container {
  readonly name: string;
  readonly image: string;
  readonly args: string[];
  readonly env: { name: string; value: string }[];
  readonly ports?: { name: string; containerPort: number }[];
  readonly volumeMounts?: { name: string; mountPath: string }[];
  readonly securityContext: Record<string, unknown>;
  readonly [probe: string]: unknown;
}
interface PodSpec {
  readonly containers: Container[];
  readonly volumes: {
    name: string;
    emptyDir?: object;
    secret?: { secretName: string; items?: { key: string }[] };
    persistentVolumeClaim?: { claimName: string };
  }[];
  readonly securityContext: Record<string, unknown>;
  readonly automountServiceAccountToken: boolean;
  readonly terminationGracePeriodSeconds: number;
  readonly topologySpreadConstraints: { labelSelector: { matchLabels: object } }[];
}
interface Item {
  readonly kind: string;
  readonly metadata: { name: string; labels: Record<string, string>; annotations?: Record<string, string> };
  readonly data: Record<string, string>;
  readonly stringData: Record<string, string>;
  readonly spec: Record<string, unknown> & {
    template: { metadata: { labels: Record<string, string>; annotations: Record<string, string> }; spec: PodSpec };
  };
}

withTools(['helm'], 'the Helm chart', (helm) => {
  const home = temporaryFolder('helm');
  const env = { HOME: home, HELM_CACHE_HOME: home, HELM_CONFIG_HOME: home, HELM_DATA_HOME: home };
  const templating = ['template', 'shop', CHART, '--namespace', 'registry', '--kube-version', '1.30.0'];
  const render = async (...more: string[]): Promise<Item[]> =>
    parseAllDocuments(await run(helm, [...templating, ...more], { env })).map((document) => {
      assert.deepEqual(document.errors, []);
      return document.toJS() as Item;
    });
  const only = (items: readonly Item[], kind: string): Item => {
    const found = items.filter((item) => item.kind === kind);
    assert.equal(found.length, 1, `one ${kind}`);
    return found[0]!;
  };
  const kinds = (items: readonly Item[]): string[] => items.map((item) => item.kind).sort();

  test('helm lint has nothing to say, about the defaults and every example', async () => {
    await run(helm, ['lint', '--strict', CHART], { env });
    for (const name of EXAMPLES) await run(helm, ['lint', '--strict', '-f', valuesOf(name), CHART], { env });
  });

  test('the chart is of this version of the program', () => {
    const chart = parseYaml(readFileSync(join(CHART, 'Chart.yaml'), 'utf8')) as { appVersion: string };
    assert.equal(chart.appVersion, VERSION);
  });

  test('one pod is made of what it needs, a fleet of more, and everything of everything', async () => {
    const base = ['ConfigMap', 'Deployment', 'Pod', 'Service', 'Service', 'ServiceAccount'];
    assert.deepEqual(kinds(await render()), [...base, 'PersistentVolumeClaim'].sort());
    assert.deepEqual(kinds(await render('-f', valuesOf('single'))), [...base, 'PersistentVolumeClaim'].sort());
    assert.deepEqual(kinds(await render('-f', valuesOf('fleet'))), [...base, 'PodDisruptionBudget'].sort());
    assert.deepEqual(
      kinds(await render('-f', valuesOf('everything'))),
      [
        ...base,
        'HorizontalPodAutoscaler',
        'Ingress',
        'NetworkPolicy',
        'PodDisruptionBudget',
        'Secret',
        'ServiceMonitor',
      ].sort(),
    );
  });

  for (const name of EXAMPLES) {
    test(`${name}: no root, nothing to write to but the data, no rights, no token, and probes`, async () => {
      const items = await render('-f', valuesOf(name));
      const { template } = only(items, 'Deployment').spec;
      const pods = [template.spec, only(items, 'Pod').spec as unknown as PodSpec];
      for (const pod of pods) {
        assert.equal(pod.automountServiceAccountToken, false);
        assert.equal(pod.securityContext.runAsNonRoot, true);
        assert.equal(pod.securityContext.runAsUser, 65532);
        assert.deepEqual(pod.securityContext.seccompProfile, { type: 'RuntimeDefault' });
        for (const { image, securityContext, resources } of pod.containers) {
          assert.deepEqual(securityContext, {
            runAsNonRoot: true,
            privileged: false,
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
            seccompProfile: { type: 'RuntimeDefault' },
          });
          assert.match(image, /^[a-z/]+(:[0-9][\w.-]*|@sha256:[0-9a-f]{64})$/);
          assert.ok(resources !== undefined);
        }
      }
      const [container] = template.spec.containers;
      const ports = container?.ports?.map((port) => port.name);
      assert.deepEqual(ports, ['registry', 'metrics']);
      const probes = { startupProbe: '/livez', livenessProbe: '/livez', readinessProbe: '/readyz' };
      for (const [probe, path] of Object.entries(probes)) {
        const { httpGet } = container![probe] as { httpGet: unknown };
        assert.deepEqual(httpGet, { path, port: 'metrics' }, probe);
      }
      const volumes = template.spec.volumes.map((volume) => volume.name);
      assert.deepEqual(
        container?.volumeMounts?.map((mount) => mount.name),
        volumes,
      );
    });

    test(`${name}: every selector finds the pods of the server and no other`, async () => {
      const items = await render('-f', valuesOf(name));
      const deployment = only(items, 'Deployment');
      const { labels } = deployment.spec.template.metadata;
      const finds = (selector: object, among: Readonly<Record<string, string>>): boolean =>
        Object.entries(selector).every(([key, value]) => among[key] === value);
      const selectors: object[] = [
        (deployment.spec.selector as { matchLabels: object }).matchLabels,
        ...deployment.spec.template.spec.topologySpreadConstraints.map((one) => one.labelSelector.matchLabels),
      ];
      for (const { kind, spec } of items) {
        if (kind === 'Service') selectors.push(spec.selector as object);
        if (kind === 'PodDisruptionBudget') selectors.push((spec.selector as { matchLabels: object }).matchLabels);
        if (kind === 'NetworkPolicy') selectors.push((spec.podSelector as { matchLabels: object }).matchLabels);
      }
      assert.ok(selectors.length >= 5);
      for (const selector of selectors) {
        assert.ok(Object.keys(selector).length >= 3);
        assert.ok(finds(selector, labels));
        assert.ok(!finds(selector, only(items, 'Pod').metadata.labels), 'the test pod serves nothing');
      }
      for (const monitor of items.filter(({ kind }) => kind === 'ServiceMonitor')) {
        const { matchLabels } = monitor.spec.selector as { matchLabels: object };
        const services = items.filter(
          ({ kind, metadata }) => kind === 'Service' && finds(matchLabels, metadata.labels),
        );
        assert.deepEqual(
          services.map(({ metadata }) => metadata.name),
          ['shop-longshore-metrics'],
        );
      }
    });

    test(`${name}: the program takes the configuration and the environment`, async () => {
      const items = await render('-f', valuesOf(name));
      const folder = temporaryFolder('chart');
      const file = join(folder, 'longshore.yaml');
      writeFileSync(file, only(items, 'ConfigMap').data['longshore.yaml'] ?? '');
      const pod = only(items, 'Deployment').spec.template.spec;
      const environment = Object.fromEntries(pod.containers[0]!.env.map(({ name: key, value }) => [key, value]));
      const mounted: string[] = [];
      for (const [key, path] of Object.entries(environment)) {
        const secret = /^LONGSHORE_(.*)_FILE$/.exec(key)?.[1];
        if (secret === undefined) continue;
        assert.equal(path, `/etc/longshore/secrets/${secret}`);
        mounted.push(secret);
        writeFileSync(
          join(folder, secret),
          secret === 'DATABASE_URL' ? 'postgres://u:p@h/d' : 'a-secret-of-some-length',
        );
        environment[key] = join(folder, secret);
      }
      const keys = pod.volumes.find((volume) => volume.name === 'secrets')?.secret?.items?.map(({ key }) => key) ?? [];
      assert.deepEqual(keys.sort(), mounted.sort());
      const secrets = items.filter(({ kind }) => kind === 'Secret');
      for (const secret of secrets) assert.deepEqual(Object.keys(secret.stringData).sort(), keys);
      const { config } = await loadConfiguration({ file, environment });
      assert.deepEqual(config.server.listen, { host: '0.0.0.0', port: 5000 });
      assert.deepEqual(config.server.metricsListen, { host: '0.0.0.0', port: 9090 });
      assert.equal(config.data, '/data');
      assert.equal(config.database.url !== undefined, name !== 'single');
      const stopping = (config.server.notReadySeconds ?? 5) + config.server.drainSeconds;
      assert.ok(pod.terminationGracePeriodSeconds > stopping, 'the server ends by itself before it is killed');
    });
  }

  test('one owner of SQLite: the old pod goes before the new one comes; a fleet never has too few', async () => {
    const single = only(await render('-f', valuesOf('single')), 'Deployment').spec;
    assert.deepEqual([single.replicas, single.strategy], [1, { type: 'Recreate' }]);
    assert.equal(
      single.template.spec.volumes.find(({ name }) => name === 'data')?.persistentVolumeClaim?.claimName,
      'shop-longshore',
    );
    const fleet = only(await render('-f', valuesOf('fleet')), 'Deployment').spec;
    assert.equal(fleet.replicas, 3);
    assert.deepEqual(fleet.strategy, { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } });
    assert.deepEqual(fleet.template.spec.volumes.find(({ name }) => name === 'data')?.emptyDir, {});
    const scaled = only(await render('-f', valuesOf('everything')), 'Deployment').spec;
    assert.equal(scaled.replicas, undefined, 'the autoscaler has the say');
  });

  test('another configuration makes other pods, the same one does not', async () => {
    const sum = async (...more: string[]): Promise<string | undefined> =>
      only(await render(...more), 'Deployment').spec.template.metadata.annotations['checksum/config'];
    assert.match((await sum()) ?? '', /^[0-9a-f]{64}$/);
    assert.equal(await sum('--set', 'podLabels.a=b'), await sum());
    assert.notEqual(await sum('--set', 'config.log.level=debug'), await sum());
  });

  test('what cannot work is refused, with what to do', async () => {
    const refused: readonly (readonly [string[], RegExp])[] = [
      [['replicas=2'], /several pods need PostgreSQL.*DATABASE_URL/],
      [['autoscaling.enabled=true'], /several pods need PostgreSQL/],
      [['replicas=2', 'secrets.values.DATABASE_URL=postgres://h/d'], /several pods need an object store/],
      [['persistence.enabled=false'], /a restarted pod has lost everything/],
      [['config.database.url=postgres://h/d'], /is a secret/],
      [['config.storage.driver=s3', 'config.storage.s3.secretAccessKey=x'], /is a secret/],
      [['config.storage.driver=s3'], /config\.storage\.s3\.bucket is missing/],
      [['config.storage.driver=azure'], /config\.storage\.azure\.container is missing/],
      [['config.server.listen=:80'], /is the chart's/],
      [['config.data=/srv'], /is the chart's/],
      [['secrets.values.STORAGE_S3_ACCESS_KEY_ID=x'], /belong together/],
      [['secrets.existing.name=x'], /name the keys/],
      [
        ['secrets.existing.name=x', 'secrets.existing.keys={DATABASE_URL}', 'secrets.values.DATABASE_URL=y'],
        /not both/,
      ],
      [['ingress.enabled=true'], /ingress\.hosts is empty/],
    ];
    for (const [sets, says] of refused) {
      const ran = await runAny(helm, [...templating, ...sets.flatMap((one) => ['--set', one])], { env });
      assert.notEqual(ran.code, 0, sets.join(' '));
      assert.match(ran.stderr, says);
    }
  });

  test('the schema refuses what is misspelt, of another kind, or a moving tag', async () => {
    const wrong = [
      'replica=2',
      'replicas=-1',
      'image.tag=latest',
      'image.pullPolicy=Sometimes',
      'secrets.values.DATABSE_URL=x',
      'persistence.size=much',
      'persistence.accessMode=ReadOnlyMany',
      'service.port=0',
      'listenHost=127.0.0.1',
      'userId=0',
      'podDisruptionBudget.maxUnavailable=0',
      'networkPolicy.egress.allow=true',
      'serviceMonitor.interval=often',
    ];
    for (const set of wrong) {
      const ran = await runAny(helm, [...templating, '--set', set], { env });
      assert.notEqual(ran.code, 0, set);
      assert.match(ran.stderr, /don't meet the specifications of the schema/, set);
    }
  });

  test('every value is commented and in the schema', () => {
    const text = readFileSync(join(CHART, 'values.yaml'), 'utf8');
    const schema = JSON.parse(readFileSync(join(CHART, 'values.schema.json'), 'utf8')) as {
      properties: Record<string, unknown>;
    };
    const values = Object.keys(parseYaml(text) as object);
    assert.deepEqual(
      values.sort(),
      Object.keys(schema.properties)
        .filter((name) => name !== 'global')
        .sort(),
    );
    const lines = text.split('\n');
    for (const name of values) {
      const at = lines.findIndex((line) => line.startsWith(`${name}:`));
      // Above it, inside it, or above the group of values without an empty line between.
      let first = at;
      while (first > 0 && lines[first - 1] !== '') first -= 1;
      const after = lines.slice(at + 1).findIndex((line) => /^\S/.test(line) || line === '');
      const near = lines.slice(first, at + 1 + Math.max(0, after));
      assert.ok(near.some((line) => line.trim().startsWith('#')) || SPEAKING.has(name), `${name} has no comment`);
    }
  });
});

/** Values that are as in every chart. */
const SPEAKING = new Set([
  'service',
  'resources',
  'podAnnotations',
  'podLabels',
  'nodeSelector',
  'tolerations',
  'affinity',
  'priorityClassName',
  'nameOverride',
  'fullnameOverride',
]);
