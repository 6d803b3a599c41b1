import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AddressError, type AddressSections, isSamePlace, parseAddress } from './address.ts';

const parse = (text: string, sections: AddressSections = {}) => parseAddress(text, sections, (path) => `/here/${path}`);

test('a folder, and buckets of each vendor', () => {
  assert.deepEqual(parse('a/b'), { driver: 'fs', root: '/here/a/b', durability: 'full' });
  assert.deepEqual(
    parse('s3://bucket/a//b/?endpoint=http://127.0.0.1:9000&region=eu&pathStyle=true&checksums=whenRequired'),
    {
      ...{ driver: 's3', bucket: 'bucket', prefix: 'a/b/', endpoint: 'http://127.0.0.1:9000', region: 'eu' },
      ...{ forcePathStyle: true, checksums: 'whenRequired', serverSideEncryption: 'none' },
    },
  );
  assert.deepEqual(parse('gs://bucket?project=p'), { driver: 'gcs', bucket: 'bucket', prefix: '', projectId: 'p' });
  assert.deepEqual(parse('azblob://container/x?account=name'), {
    ...{ driver: 'azure', container: 'container', prefix: 'x/', account: 'name' },
  });
});

test('credentials come from the driver’s section, the place never does', () => {
  const s3: NonNullable<AddressSections['s3']> = {
    ...{ bucket: 'blobs', prefix: 'live/', region: 'r', endpoint: 'https://h', forcePathStyle: true },
    ...{ accessKeyId: 'id', secretAccessKey: 'secret' },
    serverSideEncryption: 'AES256',
    checksums: 'whenSupported',
  };
  assert.deepEqual(parse('s3://backups', { s3 }), { ...s3, driver: 's3', bucket: 'backups', prefix: '' });
  assert.ok(isSamePlace(parse('s3://blobs/live', { s3 }), { driver: 's3', ...s3 }));
  assert.ok(!isSamePlace(parse('s3://blobs/other', { s3 }), { driver: 's3', ...s3 }));
  const azure = { container: 'blobs', prefix: '', account: 'name', accountKey: 'key' };
  assert.deepEqual(parse('azblob://backups', { azure }), { ...azure, driver: 'azure', container: 'backups' });
});

test('what is no place is refused', () => {
  for (const text of [
    ...['', 'ftp://a/b', 's3://', 's3://a', 's3://bucket/a b', 's3://bucket/../x', 's3://bucket?colour=1'],
    ...['s3://bucket?pathStyle=yes', 's3://bucket?checksums=never', 's3://bucket?endpoint=file:///etc/passwd'],
    ...['s3://bucket?region=a?x', 's3://bucket?region=a&region=b', 's3://bucket?endpoint=http://a?b'],
    ...['s3://bucket?endpoint=http://[::1', 's3://bucket?endpoint=http://a\\b', 's3://bucket?endpoint=http://a%2523'],
    ...['s3://bucket?endpoint=http://user:password@host', `gs://bucket/${'a'.repeat(300)}`, 'x'.repeat(3_000)],
  ])
    assert.throws(() => parse(text), AddressError, text);
});

test('whatever the text: a refusal that does not repeat it, or a place that is one', () => {
  const secret = 'hunter2canary';
  const part = fc.oneof(
    { weight: 3, arbitrary: fc.string({ unit: 'binary', maxLength: 12 }) },
    fc.constantFrom(
      ...[
        's3://',
        'gs://',
        'azblob://',
        'S3://',
        'ftp://',
        'bucket',
        '/',
        '//',
        '..',
        '?',
        '&',
        '=',
        '#',
        '@',
        ':',
        '%00',
      ],
      ...[
        'endpoint=',
        'region=',
        'pathStyle=',
        'account=',
        'ca=',
        '__proto__=',
        'http://',
        'https://h',
        '127.0.0.1:9000',
      ],
      ...[`key:${secret}@bucket`, `secretAccessKey=${secret}`, `endpoint=https://u:${secret}@h`, `${secret}=1`],
    ),
  );
  const text = fc.array(part, { maxLength: 8 }).map((parts) => parts.join(''));
  fc.assert(
    fc.property(text, (given) => {
      let settings: ReturnType<typeof parse>;
      try {
        settings = parse(given);
      } catch (error) {
        assert.ok(error instanceof AddressError, String(error));
        assert.ok(!error.message.includes(secret), error.message);
        return;
      }
      if (settings.driver === 'fs') {
        assert.equal(settings.root, `/here/${given}`);
        return;
      }
      assert.match(settings.prefix, /^([A-Za-z0-9._-]+\/)*$/);
      assert.ok(!settings.prefix.split('/').some((segment) => segment === '.' || segment === '..'));
      if (settings.endpoint === undefined) return;
      const { protocol, username, password, search, hash } = new URL(settings.endpoint);
      assert.match(protocol, /^https?:$/);
      assert.deepEqual([username, password, search, hash], ['', '', '', '']);
    }),
    { seed: 76, numRuns: 8_000 },
  );
});
