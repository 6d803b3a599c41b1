import assert from 'node:assert/strict';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { describe, test } from 'node:test';
import { addressList, isListed, isLoopback, type PeerFacts, peers, plainAddress } from './forwarded.ts';

/** A request as the function sees it, from an address with headers. */
function from(address: string, headers: IncomingHttpHeaders = {}, socket: object = {}): IncomingMessage {
  const rawHeaders = Object.entries(headers).flatMap(([name, value]) => [name, String(value)]);
  return { socket: { remoteAddress: address, ...socket }, headers, rawHeaders } as unknown as IncomingMessage;
}

const ask = (trusted: string[], address: string, headers: IncomingHttpHeaders): PeerFacts =>
  peers(trusted)(from(address, headers));

describe('who is at the other end', () => {
  test('without trusted proxies nothing that a client writes counts', () => {
    const forged = {
      'x-forwarded-for': '1.2.3.4',
      forwarded: 'for=1.2.3.4;proto=https;host=evil',
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'evil',
      'x-real-ip': '1.2.3.4',
      host: 'Registry:5000',
    };
    for (const trusted of [[], ['10.0.0.0/8']]) {
      assert.deepEqual(ask(trusted, '192.0.2.1', forged), {
        address: '192.0.2.1',
        host: 'registry:5000',
        scheme: 'http',
        proxied: false,
      });
    }
  });

  test('from a trusted proxy: the nearest address that is none', () => {
    const trusted = ['10.0.0.0/8', 'fd00::/8'];
    const cases: [string, string][] = [
      ['1.2.3.4', '1.2.3.4'],
      ['9.9.9.9, 1.2.3.4', '1.2.3.4'],
      ['9.9.9.9, 1.2.3.4, 10.1.1.1', '1.2.3.4'],
      ['1.2.3.4:567', '1.2.3.4'],
      ['[2001:db8::1]:443', '2001:db8::1'],
      ['2001:db8::1', '2001:db8::1'],
      ['::ffff:1.2.3.4', '1.2.3.4'],
      ['unknown', '10.0.0.1'],
      ['9.9.9.9, garbage, 10.1.1.1', '10.1.1.1'],
      ['', '10.0.0.1'],
      ['10.2.2.2', '10.2.2.2'],
    ];
    for (const [header, address] of cases) {
      assert.equal(ask(trusted, '10.0.0.1', { 'x-forwarded-for': header }).address, address, header);
    }
    assert.equal(ask(trusted, '::ffff:10.0.0.1', { 'x-forwarded-for': '1.2.3.4' }).address, '1.2.3.4');
    assert.equal(ask(trusted, 'fd00::1', { 'x-forwarded-for': '1.2.3.4' }).address, '1.2.3.4');
  });

  test('RFC 7239, and two headers that contradict each other', () => {
    const trusted = ['10.0.0.1'];
    const peer = ask(trusted, '10.0.0.1', {
      forwarded: 'for=9.9.9.9, For="[2001:db8::7]:99";Proto=HTTPS;host="pub.example:8443"',
    });
    assert.deepEqual(peer, { address: '2001:db8::7', host: 'pub.example:8443', scheme: 'https', proxied: true });
    assert.equal(
      ask(trusted, '10.0.0.1', { forwarded: 'for=1.1.1.1', 'x-forwarded-for': '1.1.1.1' }).address,
      '1.1.1.1',
    );
    assert.equal(
      ask(trusted, '10.0.0.1', { forwarded: 'for=1.1.1.1', 'x-forwarded-for': '2.2.2.2' }).address,
      '10.0.0.1',
    );
    assert.equal(ask(trusted, '10.0.0.1', { forwarded: 'for=_hidden' }).address, '10.0.0.1');
  });

  test('host and scheme are validated', () => {
    const trusted = ['10.0.0.1'];
    const hosts: [string, string][] = [
      ['pub.example', 'pub.example'],
      ['a, b.example:1', 'b.example:1'],
      ['"quoted"', ''],
      ['evil/path', ''],
      ['user@host', ''],
      ['a\r\nb', ''],
      ['[::1]:5000', '[::1]:5000'],
      [`${'a'.repeat(300)}`, ''],
    ];
    for (const [header, host] of hosts)
      assert.equal(ask(trusted, '10.0.0.1', { 'x-forwarded-host': header }).host, host, header);
    assert.equal(ask(trusted, '10.0.0.1', { 'x-forwarded-proto': 'javascript' }).scheme, 'http');
    assert.equal(ask([], '10.0.0.1', { host: 'a b' }).host, '');
  });

  test('very long headers are not looked at', () => {
    const long = `${'1.1.1.1, '.repeat(1_000)}2.2.2.2`;
    assert.equal(ask(['10.0.0.1'], '10.0.0.1', { 'x-forwarded-for': long }).address, '10.0.0.1');
  });

  test('a certificate counts only where the server verified it, and not through a proxy', () => {
    const getPeerX509Certificate = (): object => ({ subject: 'CN=ann' });
    const verified = from('192.0.2.1', {}, { encrypted: true, authorized: true, getPeerX509Certificate });
    const unverified = from('192.0.2.1', {}, { encrypted: true, authorized: false, getPeerX509Certificate });
    const proxied = from(
      '10.0.0.1',
      { 'x-forwarded-for': '1.2.3.4' },
      { encrypted: true, authorized: true, getPeerX509Certificate },
    );
    const peerOf = peers(['10.0.0.1']);
    assert.equal(peerOf(verified).certificateSubject, 'CN=ann');
    assert.equal(peerOf(verified).scheme, 'https');
    assert.equal(peerOf(unverified).certificateSubject, undefined);
    assert.equal(peerOf(proxied).certificateSubject, undefined);
  });

  test('addresses', () => {
    assert.equal(plainAddress('::FFFF:127.0.0.1'), '127.0.0.1');
    assert.equal(plainAddress('fe80::1%eth0'), 'fe80::1');
    for (const own of ['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1']) assert.ok(isLoopback(own), own);
    for (const other of ['128.0.0.1', '::2', '', 'localhost']) assert.ok(!isLoopback(other), other);
    assert.ok(isListed(addressList(['2001:db8::/32']), '2001:db8:1::1'));
  });
});
