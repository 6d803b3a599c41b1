/**
 * Data folders of earlier landings (`tools/fixture.ts` made them with the program of their time): the present program
 * brings them to its schema and answers as was recorded, the copy that it kept can be used, and a folder from the
 * future is refused and left alone.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, globSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import { MIGRATIONS } from '../src/migrations.ts';
import { client } from './support/client.ts';
import { longshoreCommand, ROOT, startLongshore } from './support/server.ts';
import { temporaryFolder } from './support/temp.ts';
import { runAny } from './support/tools.ts';

const FIXTURES = join(ROOT, 'test/fixtures/data');
const ACCEPT = '*/*, application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json';

interface Recorded {
  readonly schema: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly answers: readonly {
    readonly method: string;
    readonly path: string;
    readonly authorization?: string;
    readonly status: number;
    readonly type?: string;
    readonly digest?: string;
    readonly sha256?: string;
  }[];
}

function unpack(name: string): string {
  const data = temporaryFolder('upgrade');
  const from = join(FIXTURES, name, 'files');
  for (const file of globSync('**/*.zst', { cwd: from })) {
    const to = join(data, file.slice(0, -'.zst'.length));
    mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
    writeFileSync(to, zstdDecompressSync(readFileSync(join(from, file))), { mode: 0o600 });
  }
  return data;
}

const recordedOf = (name: string): Recorded =>
  JSON.parse(readFileSync(join(FIXTURES, name, 'answers.json'), 'utf8')) as Recorded;

/** Serves the folder and asks everything again. */
async function compare(data: string, { environment, answers }: Recorded): Promise<void> {
  const server = await startLongshore({ data, env: environment });
  const http = client(server.url);
  const wrong: string[] = [];
  for (const asked of answers) {
    const { method, path, authorization } = asked;
    const headers = { accept: ACCEPT, ...(authorization === undefined ? {} : { authorization }) };
    const got = await http.send(method, path, { headers });
    const seen = {
      ...{ status: got.status, digest: got.headers['docker-content-digest'] },
      ...(asked.sha256 === undefined
        ? {}
        : { type: got.headers['content-type'], sha256: createHash('sha256').update(got.body).digest('hex') }),
    };
    for (const key of Object.keys(seen) as (keyof typeof seen)[])
      if (seen[key] !== asked[key]) wrong.push(`${method} ${path}: ${key} is ${seen[key]}, was ${asked[key]}`);
  }
  http.close();
  await server.stop();
  assert.deepEqual(wrong, []);
}

/** The number of the last migration that a file has run. */
function schemaOf(file: string): number {
  const db = new DatabaseSync(file, { readOnly: true });
  const row = db.prepare('select max(number) as number from migration').get() as { number: number };
  db.close();
  return row.number;
}

/** The files of a folder with their hashes. */
function hashes(data: string): Record<string, string> {
  const files = readdirSync(data, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map((entry) => join(entry.parentPath, entry.name));
  return Object.fromEntries(
    paths
      .filter((path) => path.endsWith('.db') && !path.endsWith('lock.db'))
      .map((path) => [relative(data, path), createHash('sha256').update(readFileSync(path)).digest('hex')]),
  );
}

const names = readdirSync(FIXTURES).sort();

test('there is a folder of the first landing', () => {
  assert.ok(names.includes('0001-core'), names.join(', '));
});

for (const name of names) {
  describe(`a data folder of ${name}`, () => {
    const recorded = recordedOf(name);

    test('is brought to the present schema with all that was in it', async () => {
      assert.ok(recorded.answers.length >= 40, `only ${recorded.answers.length} answers`);
      const data = unpack(name);
      const file = join(data, 'longshore.db');
      assert.equal(schemaOf(file), recorded.schema);
      await compare(data, recorded);
      assert.equal(schemaOf(file), MIGRATIONS.length);
      const copy = `${file}.before-${recorded.schema + 1}`;
      if (recorded.schema === MIGRATIONS.length) return assert.ok(!existsSync(copy));
      // What was kept before the upgrade is the folder as it was, and serves again once storage has been told.
      assert.equal(schemaOf(copy), recorded.schema);
      const again = temporaryFolder('upgrade');
      cpSync(join(data, 'storage'), join(again, 'storage'), { recursive: true });
      renameSync(copy, join(again, 'longshore.db'));
      renameSync(`${join(data, 'side.db')}.before-${recorded.schema + 1}`, join(again, 'side.db'));
      const [program = '', ...args] = longshoreCommand();
      const recovered = await runAny(program, [...args, 'recover', '--data', again], { cwd: again });
      assert.equal(recovered.code, 0, recovered.stderr);
      await compare(again, recorded);
    });

    test('from the future is refused, says why, and stays as it is', async () => {
      const data = unpack(name);
      const db = new DatabaseSync(join(data, 'longshore.db'));
      const next = MIGRATIONS.length + 1;
      const insert = db.prepare('insert or ignore into migration (number, name, applied_at) values (?, ?, 0)');
      for (const { number, name: known } of MIGRATIONS) insert.run(number, known);
      insert.run(next, 'from-the-future');
      db.close();
      const before = hashes(data);
      const [program = '', ...args] = longshoreCommand();
      for (const command of [
        ['serve', '--listen', '127.0.0.1:0'],
        ['user', 'list'],
        ['gc', 'status'],
      ]) {
        const ran = await runAny(program, [...args, ...command, '--data', data], { cwd: data });
        assert.notEqual(ran.code, 0, command.join(' '));
        assert.match(ran.stderr, new RegExp(`newer than this program: it has schema ${next}`), command.join(' '));
      }
      assert.deepEqual(hashes(data), before);
    });
  });
}
