/** The systemd unit: what systemd itself says about it, how exposed it judges it, and that it runs this program. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadConfiguration } from '../../src/configuration.ts';
import { ROOT } from '../support/server.ts';
import { temporaryFolder } from '../support/temp.ts';
import { run, runAny, withTools } from '../support/tools.ts';

const UNIT = join(ROOT, 'deploy/systemd/longshore.service');
/** systemd's own judgement, tenths of its scale of 10: lower is less exposed. */
const MOST_EXPOSED = 15;

/** The unit's settings; those given several times, each. */
function settings(): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const line of readFileSync(UNIT, 'utf8').split('\n')) {
    const [, name, value] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? [];
    if (name !== undefined) found.set(name, [...(found.get(name) ?? []), value ?? '']);
  }
  return found;
}

test('it stops later than the server takes, may be stopped and reloaded, and may compile what it runs', async () => {
  const unit = settings();
  const { config } = await loadConfiguration({ environment: {} });
  const stopping = (config.server.notReadySeconds ?? 5) + config.server.drainSeconds;
  assert.ok(Number(unit.get('TimeoutStopSec')?.[0]) > stopping);
  assert.deepEqual(unit.get('ExecReload'), ['/bin/kill -HUP $MAINPID']);
  assert.deepEqual(unit.get('MemoryDenyWriteExecute'), ['no']);
  assert.deepEqual(unit.get('StateDirectoryMode'), ['0700']);
  const environment = Object.fromEntries(
    (unit.get('Environment') ?? []).flatMap((line) =>
      line.split(' ').map((pair) => pair.split('=') as [string, string]),
    ),
  );
  assert.equal((await loadConfiguration({ environment })).config.data, '/var/lib/longshore');
});

withTools(['systemd-analyze'], 'the systemd unit', (analyze) => {
  // The unit names a program that is not installed here: another stands for it.
  const folder = temporaryFolder('unit');
  const unit = join(folder, 'longshore.service');
  writeFileSync(unit, readFileSync(UNIT, 'utf8').replace('/usr/local/bin/longshore', '/bin/true'));

  test('systemd finds nothing wrong with it, and something with a misspelt one', async () => {
    const verified = await runAny(analyze, ['verify', unit]);
    assert.deepEqual([verified.code, verified.stderr], [0, '']);
    const wrong = join(folder, 'wrong.service');
    writeFileSync(wrong, readFileSync(unit, 'utf8').replace('NoNewPrivileges=', 'NoNewPrivilege='));
    assert.match((await runAny(analyze, ['verify', wrong])).stderr, /NoNewPrivilege/);
  });

  test('systemd judges it hardly exposed', async () => {
    const ran = await runAny(analyze, ['security', '--offline=true', `--threshold=${MOST_EXPOSED}`, unit]);
    assert.equal(ran.code, 0, ran.stdout.split('\n').slice(-3).join('\n'));
  });
});

withTools(
  ['systemd-sysusers', 'systemd-tmpfiles'],
  'the user and folders of the systemd unit',
  (sysusers, tmpfiles) => {
    test('its user and its folders are made', async () => {
      const root = temporaryFolder('root');
      mkdirSync(join(root, 'etc'));
      await run(sysusers, [`--root=${root}`, join(ROOT, 'deploy/systemd/longshore.sysusers.conf')]);
      assert.match(
        readFileSync(join(root, 'etc/passwd'), 'utf8'),
        /^longshore:x:\d+:\d+:[^:]*:\/var\/lib\/longshore:/m,
      );
      await runAny(tmpfiles, ['--create', `--root=${root}`, join(ROOT, 'deploy/systemd/longshore.tmpfiles.conf')]);
      assert.ok(existsSync(join(root, 'etc/longshore')));
      assert.equal(statSync(join(root, 'etc/longshore')).mode & 0o777, 0o755);
    });
  },
);
