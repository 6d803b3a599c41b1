/** The API of a server of several processes: any of them answers, and what one changes holds in all. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pushImage } from '../support/oci.ts';
import { open } from '../support/open.ts';
import { ask } from '../support/wire.ts';

test('a roll back through one process is seen through every other', async () => {
  const server = await open({ config: { server: { processes: 2 }, access: { anonymous: 'push' } } });
  const tag = '/api/v1/repositories/a%2Fb/tags/v1';
  const one = (await pushImage(server, 'a/b', 'v1')).digest;
  const two = (await pushImage(server, 'a/b', 'v1')).digest;
  for (let round = 0; round < 6; round++) {
    const to = round % 2 === 0 ? one : two;
    const body = JSON.stringify({ to });
    const headers = { 'content-type': 'application/json', 'if-match': `"${to === one ? two : one}"` };
    const moved = await ask(server, 'POST', `${tag}/rollback`, { headers, body });
    assert.equal(moved.status, 200, moved.text());
    // Each connection may be another process.
    for (let look = 0; look < 4; look++) {
      const head = await ask(server, 'HEAD', '/v2/a/b/manifests/v1');
      assert.equal(head.header('docker-content-digest'), to);
    }
    const history = (await ask(server, 'GET', `${tag}/history?limit=1`)).json() as {
      items: { to: string; kind: string }[];
    };
    assert.deepEqual([history.items[0]?.to, history.items[0]?.kind], [to, 'rolled-back']);
  }
  await server.stop();
});
