/** The single-file executable: built for both architectures, and run with nothing beside it. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { VERSION } from '../../src/version.ts';
import { client } from '../support/client.ts';
import { image } from '../support/images.ts';
import { freePort } from '../support/port.ts';
import { ROOT } from '../support/server.ts';
import { temporaryFolder } from '../support/temp.ts';
import { run, runAny, withTools } from '../support/tools.ts';
import { nodeFetched, OWN, packagesFetched, startProgram, withThese } from './support.ts';

const PASSWORD = 'a password of tests';
const BASIC = `Basic ${Buffer.from(`ann:${PASSWORD}`).toString('base64')}`;
/** e_machine of an ELF header. */
const MACHINES = { amd64: 0x3e, arm64: 0xb7 } as const;

async function build(architecture: 'amd64' | 'arm64'): Promise<string> {
  const folder = temporaryFolder('executable');
  const tool = join(ROOT, 'tools/executable.ts');
  const program = (await run(process.execPath, [tool, '--arch', architecture, '--out', folder])).trim();
  assert.equal(program, join(folder, `longshore-linux-${architecture}`));
  assert.deepEqual(readdirSync(folder), [`longshore-linux-${architecture}`]);
  return program;
}

function machineOf(program: string): number {
  const header = readFileSync(program).subarray(0, 20);
  assert.equal(header.subarray(0, 4).toString('latin1'), '\x7fELF');
  return header.readUInt16LE(18);
}

describe(`the executable for ${OWN}`, () => {
  let program: string;
  before(async () => {
    program = await build(OWN);
  });

  test('it is one program of this architecture that knows its version', async () => {
    assert.equal(machineOf(program), MACHINES[OWN]);
    assert.equal((await run(program, ['version'])).trim(), VERSION);
    const wrong = await runAny(program, ['sreve']);
    assert.deepEqual([wrong.code, /did you mean "serve"/.test(wrong.stderr)], [2, true]);
  });

  test('two processes serve from it; users are added and garbage is asked about while they run', async () => {
    const folder = temporaryFolder('alone');
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    // Nothing of this machine: no PATH, no HOME, no Node.
    const env = {
      PATH: '/nonexistent',
      LONGSHORE_DATA: join(folder, 'data'),
      LONGSHORE_SERVER_LISTEN: `127.0.0.1:${port}`,
      LONGSHORE_SERVER_PROCESSES: '2',
    };
    const ask = (args: readonly string[], input = '') => runAny(program, args, { cwd: folder, env, input });
    assert.equal((await ask(['health'])).code, 1);
    const server = await startProgram([program, 'serve'], { env, cwd: folder, url: `${url}/readyz` });
    const children = readFileSync(`/proc/${server.pid}/task/${server.pid}/children`, 'utf8').trim().split(' ');
    assert.ok(children.length >= 2, `children: ${children}`);

    const anybody = client(url);
    const pushed = image();
    await anybody.pushImage('demo/alone', pushed, 'v1');
    const added = await ask(['user', 'add', 'ann'], `${PASSWORD}\n`);
    assert.equal(added.code, 0, added.stderr);
    const ann = client(url, { authorization: BASIC });
    // The other process hears of it a moment later.
    let status401 = 0;
    for (let round = 0; round < 2_400 && status401 < 10; round++) {
      const { status } = await anybody.send('GET', '/v2/demo/alone/manifests/v1');
      status401 = status === 401 ? status401 + 1 : 0;
      if (status !== 401) await sleep(50);
    }
    assert.equal(status401, 10, 'ten answers in a row that ask for a login');
    assert.equal((await ann.hash('/v2/demo/alone/manifests/v1')).digest, pushed.manifest.digest);
    for (const { digest } of pushed.blobs)
      assert.equal((await ann.hash(`/v2/demo/alone/blobs/${digest}`)).digest, digest);
    await ann.pushImage('demo/alone', image(), 'v2');

    const status = await ask(['gc', 'status', '--json']);
    assert.equal(status.code, 0, status.stderr);
    assert.ok(typeof JSON.parse(status.stdout) === 'object');
    assert.deepEqual([(await ask(['health'])).code, (await ask(['health', '--live'])).code], [0, 0]);
    anybody.close();
    ann.close();
    assert.equal(await server.stop(), 0, server.output());
  });
});

const other = OWN === 'amd64' ? 'arm64' : 'amd64';
let building: Promise<string> | undefined;
const built = (): Promise<string> => {
  building ??= build(other);
  return building;
};
withThese({ [`Node for ${other}`]: nodeFetched(other) }, `the executable for ${other}`, () => {
  test(`the executable for ${other} is a program of that architecture`, async () => {
    assert.equal(machineOf(await built()), MACHINES[other]);
  });
});

// Another processor is emulated: enough to see that the program in it starts and serves.
const emulator = other === 'arm64' ? 'qemu-aarch64-static' : 'qemu-x86_64-static';
withThese(
  { [`Node for ${other}`]: nodeFetched(other), [`the Debian packages of ${other}`]: packagesFetched(other) },
  `the executable for ${other}, emulated`,
  () =>
    withTools([emulator, 'dpkg-deb'], `the executable for ${other}, emulated`, (qemu, dpkg) => {
      test(`the executable for ${other} serves, takes a push and gives it back`, async () => {
        const folder = temporaryFolder('emulated');
        const libraries = join(folder, 'root');
        mkdirSync(libraries);
        const packages = join(ROOT, '.cache/image', other);
        for (const file of readdirSync(packages).filter((name) => name.startsWith('lib')))
          await run(dpkg, ['-x', join(packages, file), libraries]);
        assert.ok(existsSync(join(libraries, 'lib')));
        const port = await freePort();
        const url = `http://127.0.0.1:${port}`;
        // What it sets by starting itself again is given: the kernel cannot start it again without the emulator.
        const env = {
          UV_THREADPOOL_SIZE: '4',
          MALLOC_ARENA_MAX: '1',
          LONGSHORE_DATA: join(folder, 'data'),
          LONGSHORE_SERVER_LISTEN: `127.0.0.1:${port}`,
        };
        const command = [qemu, '-L', libraries, await built()];
        const server = await startProgram([...command, 'serve'], { env, cwd: folder, url: `${url}/readyz` });
        const http = client(url);
        const pushed = image();
        await http.pushImage('demo/emulated', pushed, 'v1');
        assert.equal((await http.hash('/v2/demo/emulated/manifests/v1')).digest, pushed.manifest.digest);
        http.close();
        assert.equal(await server.stop(), 0, server.output());
      });
    }),
);
