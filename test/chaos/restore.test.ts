/** A kill around the undelete, which no request reaches: before its commit nothing is back, after it all is. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { client } from '../support/client.ts';
import { runnableImage } from '../support/images.ts';
import { startLongshore } from '../support/server.ts';
import { runAny } from '../support/tools.ts';
import { disagreements } from './disk.ts';

for (const [failpoint, status] of [
  ['restore.commit.before', 404],
  ['restore.commit.after', 200],
] as const) {
  test(`killed at ${failpoint}, a deleted manifest answers ${status}`, async () => {
    const first = await startLongshore();
    const { data } = first;
    const http = client(first.url);
    const app = runnableImage([{ a: 'deleted file' }]);
    await http.pushImage('undelete/app', app, 'v1');
    assert.equal((await http.send('DELETE', `/v2/undelete/app/manifests/${app.manifest.digest}`)).status, 202);
    http.close();
    await first.stop();
    const child = join(import.meta.dirname, 'restore-child.ts');
    const ran = await runAny(process.execPath, [child, data, 'undelete/app', app.manifest.digest, failpoint]);
    assert.equal(ran.signal, 'SIGKILL', ran.stderr);

    const second = await startLongshore({ data });
    const again = client(second.url);
    const got = await again.hash(`/v2/undelete/app/manifests/${app.manifest.digest}`);
    assert.equal(got.status, status);
    if (status === 200) assert.equal(got.digest, app.manifest.digest);
    again.close();
    await second.stop();
    assert.deepEqual(disagreements(data), []);
  });
}
