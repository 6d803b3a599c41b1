/** Threat cases 27 and 28: forwarded headers, defaults. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { temporaryFolder } from '../../support/temp.ts';
import { basic, expectError, expectStatus, get } from '../support/oci.ts';
import { cli, closed, open, PASSWORDS } from '../support/open.ts';
import { ask } from '../support/wire.ts';

const server = await closed();
const behind = await closed({ config: { server: { trustedProxies: ['127.0.0.1/32'] } } });
const alice = basic('alice', PASSWORDS.alice);

const FORGED = {
  'x-forwarded-for': '203.0.113.77',
  'x-forwarded-host': 'evil.example',
  'x-forwarded-proto': 'https',
  'x-forwarded-port': '4443',
  'x-real-ip': '203.0.113.77',
  'x-original-url': '/v2/',
  'x-rewrite-url': '/v2/',
  forwarded: 'for=203.0.113.77;host=evil.example;proto=https',
  'x-webauth-user': 'alice',
  'x-forwarded-user': 'alice',
  'x-remote-user': 'alice',
  'remote-user': 'alice',
  'x-http-method-override': 'DELETE',
};

const realmOf = (header: string): string => /realm="([^"]*)"/.exec(header)?.[1] ?? '';

describe('forwarded headers and defaults', { concurrency: true }, () => {
  it('T27 from anyone they change nothing: not the realm, not the account, not the address in the log', async () => {
    const refused = await get(server, '/v2/t27/manifests/forged-marker', FORGED);
    expectError(refused, 401, 'UNAUTHORIZED');
    assert.equal(realmOf(refused.header('www-authenticate')), `http://127.0.0.1:${server.port}/token`);
    const opened = await ask(server, 'POST', '/v2/alice/t27/blobs/uploads/', { headers: { ...FORGED, ...alice } });
    expectStatus(opened, 202);
    assert.match(opened.header('location'), /^\/v2\/alice\/t27\//);
    for (let i = 0; i < 100 && !server.output().includes('forged-marker'); i += 1) await get(server, '/v2/');
    assert.match(server.output(), /forged-marker/);
    assert.doesNotMatch(server.output(), /203\.0\.113\.77/);
    assert.doesNotMatch(server.output(), /evil\.example/);
  });

  it('T27 from a trusted proxy they count', async () => {
    const refused = await get(behind, '/v2/t27/manifests/true-marker', {
      host: 'inner',
      'x-forwarded-host': 'registry.example',
      'x-forwarded-proto': 'https',
      'x-forwarded-for': '198.51.100.7',
    });
    assert.equal(realmOf(refused.header('www-authenticate')), 'https://registry.example/token');
    for (let i = 0; i < 100 && !behind.output().includes('198.51.100.7'); i += 1) await get(behind, '/v2/');
    assert.match(behind.output(), /198\.51\.100\.7/);
    // The proxy appends: what stands before its own entry was said by the client.
    await get(behind, '/v2/t27/manifests/chain', { 'x-forwarded-for': '203.0.113.99, 198.51.100.8' });
    for (let i = 0; i < 100 && !behind.output().includes('198.51.100.8'); i += 1) await get(behind, '/v2/');
    assert.doesNotMatch(behind.output(), /"address":"203\.0\.113\.99"/);
    // An account is never taken from a header.
    expectError(
      await get(behind, '/v2/alice/x/manifests/v1', { 'x-forwarded-user': 'alice', 'x-webauth-user': 'alice' }),
      401,
      'UNAUTHORIZED',
    );
  });

  it('T27 nonsense in forwarded headers is no error of ours', async () => {
    for (const value of [
      '',
      ',',
      'x',
      '"',
      '[',
      '[::1',
      '999.999.999.999',
      'unknown',
      '_hidden',
      'a'.repeat(2000),
      '<script>',
      '127.0.0.1, , ,',
      '::ffff:127.0.0.1',
      '\u00ff'.repeat(10),
    ]) {
      for (const name of ['x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'forwarded']) {
        const answer = await get(behind, '/v2/', { [name]: value });
        assert.ok([400, 401].includes(answer.status), `${name}: ${value}: ${answer.status}`);
        assert.doesNotMatch(realmOf(answer.header('www-authenticate')), /[<>\s]/);
      }
    }
  });

  it('T28 there is no account before one is made, and no password that opens a fresh server', async () => {
    const fresh = await open({ config: { access: { anonymous: 'none' } } });
    for (const [user, password] of [
      ['admin', 'Harbor12345'],
      ['admin', 'admin'],
      ['admin', 'password'],
      ['admin', ''],
      ['root', 'root'],
      ['longshore', 'longshore'],
      ['user', 'user'],
      ['system', ''],
      ['anonymous', ''],
      ['anonymous', 'anonymous'],
    ] as const) {
      expectStatus(await get(fresh, '/v2/', basic(user, password)), 401);
      expectStatus(await get(fresh, '/token', basic(user, password)), 401);
    }
    const listed = await cli(['user', 'list', '--data', temporaryFolder('data')]);
    assert.doesNotMatch(listed.output, /admin|root/);
  });

  it('T28 a configuration key that is unknown stops the start and is named', async () => {
    await assert.rejects(open({ config: { access: { anonymus: 'none' } } }), /anonymus/);
    await assert.rejects(open({ config: { access: { anonymous: 'none', admin: true } } }), /admin/);
    await assert.rejects(open({ config: { administrators: ['x'] } }), /administrators/);
  });
});
