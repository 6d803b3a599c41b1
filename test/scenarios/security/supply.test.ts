/** Threat cases 74 and 75: what comes with us, and the schema behind every Content-Type. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, it } from 'node:test';
import { ROOT, startLongshore } from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';
import {
  basic,
  EMPTY_CONFIG,
  expectError,
  expectStatus,
  get,
  imageManifest,
  OCI_MANIFEST,
  pushBlob,
  putManifest,
} from '../support/oci.ts';
import { closed, PASSWORDS } from '../support/open.ts';
import { ask } from '../support/wire.ts';

const server = await closed();
const alice = basic('alice', PASSWORDS.alice);

const ODD_TYPES = [
  undefined,
  '',
  ' ',
  'application/json',
  'application/json ',
  'Application/JSON',
  'application/json;charset=utf-8',
  'application/json; charset=utf-7',
  'application/json\t',
  'application/json,text/plain',
  'text/plain',
  'text/json',
  'application/x-www-form-urlencoded',
  'application/x-www-form-urlencoded; charset=utf-8',
  'multipart/form-data; boundary=x',
  'multipart/form-data',
  'application/vnd.api+json',
  '*/*',
  'a/b/c',
  '/',
  ';',
  ';;;',
  'x',
  'application/octet-stream',
];

describe('supply chain and schemas', { concurrency: true }, () => {
  it('T74 every package of the lock has its hash, and none is fetched from elsewhere or as a link', () => {
    const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
      lockfileVersion: number;
      packages: Record<
        string,
        { integrity?: string; resolved?: string; link?: boolean; version?: string; hasInstallScript?: boolean }
      >;
    };
    assert.ok(lock.lockfileVersion >= 3);
    const names = Object.keys(lock.packages).filter((name) => name !== '');
    assert.ok(names.length > 20);
    for (const name of names) {
      const entry = lock.packages[name]!;
      assert.match(entry.integrity ?? '', /^sha512-[A-Za-z0-9+/]{86}==/, `${name} has no hash`);
      assert.notEqual(entry.link, true, name);
      if (entry.resolved !== undefined) assert.doesNotMatch(entry.resolved, /^(git|http:|file:)/, name);
    }
  });

  it('T74 no install script ever runs, and versions are exact', () => {
    assert.match(readFileSync(join(ROOT, 'tools/prepare.mjs'), 'utf8'), /\[\s*'ci',\s*'--ignore-scripts'/);
    assert.match(readFileSync(join(ROOT, '.npmrc'), 'utf8'), /^ignore-scripts=true$/m);
    const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    for (const kind of ['dependencies', 'devDependencies', 'optionalDependencies']) {
      for (const [name, version] of Object.entries(manifest[kind] ?? {}))
        assert.match(String(version), /^\d+\.\d+\.\d+(-[\w.]+)?$/, name);
    }
    for (const script of ['preinstall', 'install', 'postinstall', 'prepare'])
      assert.equal(manifest.scripts?.[script], undefined);
  });

  it('T74 a bad manifest is refused under every Content-Type, a good one only under its own', async () => {
    const headers = alice as Record<string, string>;
    await pushBlob(server, 'alice/t74', EMPTY_CONFIG, headers);
    const good = imageManifest(EMPTY_CONFIG, []);
    const bad = JSON.stringify({ ...JSON.parse(good), layers: [{ digest: '../../x' }] });
    const bare = imageManifest(EMPTY_CONFIG, [], { mediaType: undefined });
    for (const type of [
      ...ODD_TYPES,
      OCI_MANIFEST,
      `${OCI_MANIFEST};x`,
      ` ${OCI_MANIFEST}`,
      OCI_MANIFEST.toUpperCase(),
    ]) {
      const typed = type === undefined ? {} : { 'content-type': type };
      const answer = await ask(server, 'PUT', '/v2/alice/t74/manifests/bad', {
        headers: { ...headers, ...typed } as Record<string, string>,
        body: bad,
      });
      expectError(answer, 400, 'MANIFEST_INVALID');
      const other = await ask(server, 'PUT', '/v2/alice/t74/manifests/good', {
        headers: { ...headers, ...typed } as Record<string, string>,
        body: good,
      });
      assert.ok([201, 400].includes(other.status), `${type}: ${other.status}`);
      // Nothing but the header says what this one is.
      const untyped = await ask(server, 'PUT', '/v2/alice/t74/manifests/untyped', {
        headers: { ...headers, ...typed } as Record<string, string>,
        body: bare,
      });
      const plain = (type ?? '').split(';', 1)[0]!.trim().toLowerCase() === OCI_MANIFEST;
      assert.equal(untyped.status, plain ? 201 : 400, `${type}: ${untyped.status}`);
      if (other.status === 201)
        assert.equal((await get(server, '/v2/alice/t74/manifests/good', headers)).header('content-type'), OCI_MANIFEST);
    }
    expectError(await get(server, '/v2/alice/t74/manifests/bad', headers), 404, 'MANIFEST_UNKNOWN');
    expectStatus(await putManifest(server, 'alice/t74', 'good', good, OCI_MANIFEST, headers), 201);
  });

  it('T74 the token form is read under its own type only, and never as JSON', async () => {
    const form = `grant_type=password&username=alice&password=${encodeURIComponent(PASSWORDS.alice)}&service=longshore`;
    const json = JSON.stringify({
      grant_type: 'password',
      username: 'alice',
      password: PASSWORDS.alice,
      service: 'longshore',
    });
    for (const type of ODD_TYPES) {
      for (const body of [form, json, `{"__proto__":{"grant_type":"password"}}`]) {
        const answer = await ask(server, 'POST', '/token', {
          headers: type === undefined ? {} : { 'content-type': type },
          body,
        });
        if (answer.status === 200) {
          assert.match(String(type), /^application\/x-www-form-urlencoded/);
          assert.equal(body, form);
        } else assert.ok([400, 415].includes(answer.status), `${type}: ${answer.status} ${answer.text()}`);
        assert.ok(!answer.text().includes(PASSWORDS.alice));
      }
    }
  });

  it('T75 the SQLite of this Node is new enough', () => {
    const database = new DatabaseSync(':memory:');
    const version = String(Object.values(database.prepare('select sqlite_version()').get() ?? {})[0])
      .split('.')
      .map(Number);
    database.close();
    assert.ok(version[0]! > 3 || version[1]! > 51 || (version[1] === 51 && version[2]! >= 3), version.join('.'));
  });

  for (const [version, taken] of [
    ['3.51.2', false],
    ['3.50.4', false],
    ['3.7.0', false],
    ['3.51.3', true],
  ] as const) {
    it(`T75 a start on SQLite ${version} is ${taken ? 'taken' : 'refused, naming the version'}`, async () => {
      const preload = join(temporaryFolder('preload'), 'old-sqlite.mjs');
      writeFileSync(
        preload,
        `import { DatabaseSync } from 'node:sqlite';
const prepare = DatabaseSync.prototype.prepare;
DatabaseSync.prototype.prepare = function (sql, ...rest) {
  return prepare.call(this, sql.includes('sqlite_version()') ? "select '${version}' as version" : sql, ...rest);
};
`,
      );
      const attempt = startLongshore({ env: { NODE_OPTIONS: `--import=${preload}` }, entry: 'source' });
      if (taken) await (await attempt).kill();
      else await assert.rejects(attempt, new RegExp(version.replaceAll('.', '\\.')));
    });
  }

  it('T75 only the writer writes: readers cannot, and the data folder has one owner', async () => {
    const data = server.data;
    const second = startLongshore({ data });
    await assert.rejects(
      second.then((own) => own.kill()),
      /lock|use|owner|another/i,
    );
    expectStatus(await get(server, '/v2/', alice), 200);
  });
});
