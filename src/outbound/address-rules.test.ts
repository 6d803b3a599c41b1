import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type AddressKind, addressBytes, addressKind, addressRule, isLocalName } from './address-rules.ts';

const KINDS: Readonly<Record<AddressKind, readonly string[]>> = {
  public: [
    '1.1.1.1',
    '8.8.8.8',
    '9.255.255.255',
    '11.0.0.0',
    '100.63.255.255',
    '100.128.0.0',
    '126.255.255.255',
    '128.0.0.0',
    '169.253.255.255',
    '172.15.255.255',
    '172.32.0.0',
    '192.167.255.255',
    '192.169.0.0',
    '223.255.255.255',
    '2606:4700:4700::1111',
    '2001:4860:4860::8888',
    '2a00:1450:4001:800::200e',
    '::ffff:8.8.8.8',
    '::ffff:808:808',
    '64:ff9b::8.8.8.8',
    '2002:808:808::1',
  ],
  private: [
    '127.0.0.1',
    '127.255.255.254',
    '10.0.0.1',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.0.1',
    '100.64.0.1',
    '100.127.255.255',
    '::1',
    '0:0:0:0:0:0:0:1',
    'fc00::1',
    'fd12:3456:789a::1',
    'fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '::ffff:10.0.0.1',
    '::ffff:0:127.0.0.1',
    '64:ff9b::7f00:1',
    '64:ff9b::192.168.1.1',
    '2002:7f00:1::1',
    '2002:c0a8:101::',
    '2607:f8b0::5efe:127.0.0.1',
    '2607:f8b0::200:5efe:10.0.0.1',
  ],
  reserved: [
    '0.0.0.0',
    '0.1.2.3',
    '169.254.169.254',
    '169.254.0.1',
    '100.100.100.200',
    '168.63.129.16',
    '192.0.0.8',
    '192.0.2.1',
    '192.88.99.1',
    '198.18.0.1',
    '198.19.255.255',
    '198.51.100.7',
    '203.0.113.7',
    '224.0.0.1',
    '239.255.255.255',
    '240.0.0.1',
    '255.255.255.255',
    '::',
    '::7f00:1',
    '::127.0.0.1',
    '::8.8.8.8',
    '::ffff:169.254.169.254',
    '64:ff9b::a9fe:a9fe',
    '64:ff9b:1::7f00:1',
    '2002:a9fe:a9fe::',
    '2001::7f00:1',
    '2001:0:4136:e378:8000:63bf:3fff:fdd2',
    '2001:db8::1',
    '3fff::1',
    '5f00::1',
    'fe80::1',
    'fe80::1%eth0',
    'febf::1',
    'fec0::1',
    'ff02::1',
    'fd00:ec2::254',
    'fd20:ce::254',
    '4000::1',
    '',
    'localhost',
    '127.1',
    '0x7f.0.0.1',
    '1.2.3.4.5',
    '1.2.3',
    '::g',
    '[::1]',
  ],
};

test('every kind of address is known, however IPv6 wraps it', () => {
  for (const kind of Object.keys(KINDS) as AddressKind[]) {
    for (const address of KINDS[kind]) assert.equal(addressKind(address), kind, address);
  }
});

test('a policy opens private addresses, or single networks, and never more', () => {
  const closed = addressRule({});
  const open = addressRule({ allowPrivateAddresses: true });
  const one = addressRule({
    allowedNetworks: ['10.1.0.0/16', '169.254.169.254', 'fd00::/8', 'nonsense', '10.0.0.0/99', '0.0.0.0/'],
  });
  for (const kind of Object.keys(KINDS) as AddressKind[]) {
    for (const address of KINDS[kind]) {
      assert.equal(closed(address), kind === 'public', address);
      assert.equal(open(address), kind !== 'reserved', address);
    }
  }
  for (const [address, allowed] of [
    ['10.1.2.3', true],
    ['10.2.0.1', false],
    ['169.254.169.254', true],
    ['169.254.169.253', false],
    ['fd12::1', true],
    ['fc12::1', false],
    ['0.0.0.0', false],
    ['8.8.8.8', true],
  ] as const) {
    assert.equal(one(address), allowed, address);
  }
});

test('names of this machine', () => {
  for (const name of ['localhost', 'LOCALHOST', 'localhost.', 'a.localhost', 'a.b.localhost.', '', '.'])
    assert.ok(isLocalName(name), name);
  for (const name of ['localhost.example.org', 'notlocalhost', 'example.org']) assert.ok(!isLocalName(name), name);
});

test('any spelling of an IPv6 address gives the same bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      const groups = Array.from({ length: 8 }, (_, i) => ((bytes[i * 2]! << 8) | bytes[i * 2 + 1]!).toString(16));
      const long = groups.map((group) => group.padStart(4, '0')).join(':');
      const short = new URL(`http://[${long}]`).hostname.slice(1, -1);
      const dotted = `${groups.slice(0, 6).join(':')}:${[...bytes.subarray(12)].join('.')}`;
      for (const text of [long, long.toUpperCase(), short, dotted]) assert.deepEqual(addressBytes(text), bytes, text);
    }),
  );
});
