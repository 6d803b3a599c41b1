/** Edge cases 61-68: tags, catalog, pages, names. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  bytesOf,
  EMPTY_CONFIG,
  expectError,
  expectStatus,
  get,
  imageManifest,
  nextOf,
  pushBlob,
  pushImage,
  putManifest,
} from '../support/oci.ts';
import { open } from '../support/open.ts';
import { ask } from '../support/wire.ts';

const server = await open();

/** One manifest under many tags. */
async function tagged(repository: string, tags: readonly string[]): Promise<void> {
  await pushBlob(server, repository, EMPTY_CONFIG);
  const text = imageManifest(EMPTY_CONFIG, []);
  for (const tag of tags) expectStatus(await putManifest(server, repository, tag, text), 201);
}

/** All pages from `path` on; refuses more than 50. */
async function pages(path: string, key: string): Promise<string[][]> {
  const found: string[][] = [];
  for (let next: string | undefined = path; next !== undefined; ) {
    const page = await get(server, next);
    expectStatus(page, 200);
    found.push(page.json()[key]);
    next = nextOf(page);
    assert.ok(found.length < 50, 'the pages do not end');
  }
  return found;
}

describe('tags and catalog', { concurrency: true }, () => {
  const sorted = ['1', '10', '2', 'A', 'B.1', 'B_1', 'Z', '_x', 'a', 'a-b', 'b', 'z'];

  it('E61 tags come in the order of their bytes, in full pages with a Link', async () => {
    await tagged('e61', [...sorted].reverse());
    const whole = await get(server, '/v2/e61/tags/list');
    expectStatus(whole, 200);
    assert.deepEqual(whole.json(), { name: 'e61', tags: [...sorted].sort() });
    assert.equal(whole.header('link'), '');
    const found = await pages('/v2/e61/tags/list?n=5', 'tags');
    assert.deepEqual(
      found.map((page) => page.length),
      [5, 5, 2],
    );
    assert.deepEqual(found.flat(), [...sorted].sort());
    const first = await get(server, '/v2/e61/tags/list?n=5');
    assert.match(first.header('link'), /^<\/v2\/e61\/tags\/list\?[^> "]*>; rel="next"$/);
    assert.deepEqual((await get(server, '/v2/e61/tags/list?n=2&last=A')).json().tags, ['B.1', 'B_1']);
    assert.deepEqual((await get(server, '/v2/e61/tags/list?last=a')).json().tags, ['a-b', 'b', 'z']);
    const probe = await ask(server, 'HEAD', '/v2/e61/tags/list?n=5');
    expectStatus(probe, 200);
    assert.equal(probe.header('link'), first.header('link'));
    assert.equal(probe.header('content-length'), String(first.body.length));
  });

  it('E62 n=0 is an empty list without a Link; n that is no number is 400', async () => {
    await tagged('e62', ['a', 'b']);
    const none = await get(server, '/v2/e62/tags/list?n=0');
    expectStatus(none, 200);
    assert.deepEqual(none.json(), { name: 'e62', tags: [] });
    assert.equal(none.header('link'), '');
    assert.deepEqual((await get(server, '/v2/e62/tags/list?n=')).json().tags, ['a', 'b']);
    for (const n of [
      '-1',
      'x',
      '1.5',
      '1e3',
      '0x10',
      '+5',
      '%2B5',
      ' 5'.replace(' ', '%20'),
      '5%0a',
      'NaN',
      '٣'.replace('٣', '%D9%A3'),
    ]) {
      const path = `/v2/e62/tags/list?n=${n}`;
      const answer = await get(server, path);
      assert.equal(answer.status, 400, `${n}: ${answer.status}`);
      if (!n.includes('%0a')) expectError(answer, 400, 'PAGINATION_NUMBER_INVALID');
    }
    const catalog = await get(server, '/v2/_catalog?n=0');
    expectStatus(catalog, 200);
    assert.deepEqual(catalog.json(), { repositories: [] });
    expectError(await get(server, '/v2/_catalog?n=-1'), 400, 'PAGINATION_NUMBER_INVALID');
  });

  it('E63 last need not exist', async () => {
    await tagged('e63', ['a', 'c', 'e']);
    assert.deepEqual((await get(server, '/v2/e63/tags/list?last=b')).json().tags, ['c', 'e']);
    expectStatus(await ask(server, 'DELETE', '/v2/e63/manifests/c'), 202);
    assert.deepEqual((await get(server, '/v2/e63/tags/list?last=c')).json().tags, ['e']);
    assert.deepEqual((await get(server, '/v2/e63/tags/list?last=zzz')).json().tags, []);
    assert.deepEqual((await get(server, '/v2/e63/tags/list?last=.not-a-tag')).json().tags, ['a', 'e']);
  });

  it('E64 there is no Link on the last page when it is exactly full', async () => {
    await tagged('e64', ['a', 'b', 'c', 'd']);
    assert.deepEqual(await pages('/v2/e64/tags/list?n=2', 'tags'), [
      ['a', 'b'],
      ['c', 'd'],
    ]);
    assert.equal((await get(server, '/v2/e64/tags/list?n=4')).header('link'), '');
    assert.equal((await get(server, '/v2/e64/tags/list?n=2&last=b')).header('link'), '');
  });

  it('E65 a Link repeated as it came leads on', async () => {
    await tagged('e65/a_b-c', ['a', 'b', 'c', 'd', 'e']);
    const first = await get(server, '/v2/e65/a_b-c/tags/list?n=2&unknown=%C3%BC');
    const next = nextOf(first);
    assert.ok(next !== undefined && /^[\x21-\x7e]+$/.test(next));
    assert.deepEqual((await get(server, next)).json().tags, ['c', 'd']);
    assert.deepEqual((await get(server, next)).json().tags, ['c', 'd']);
  });

  it('E66 an unknown repository is NAME_UNKNOWN, one without tags an empty list', async () => {
    expectError(await get(server, '/v2/e66/never/tags/list'), 404, 'NAME_UNKNOWN');
    await pushBlob(server, 'e66/blob-only', bytesOf(10));
    expectError(await get(server, '/v2/e66/blob-only/tags/list'), 404, 'NAME_UNKNOWN');
    const image = await pushImage(server, 'e66/untagged', '');
    assert.deepEqual((await get(server, '/v2/e66/untagged/tags/list')).json(), { name: 'e66/untagged', tags: [] });
    expectStatus(await putManifest(server, 'e66/untagged', 'x', image.manifest), 201);
    expectStatus(await ask(server, 'DELETE', '/v2/e66/untagged/manifests/x'), 202);
    const list = await get(server, '/v2/e66/untagged/tags/list');
    assert.equal(list.text().replaceAll(/\s/g, ''), '{"name":"e66/untagged","tags":[]}');
  });

  it('E67 the catalog lists repositories with a manifest, in order and in pages', async () => {
    for (const name of ['e67/c', 'e67/a', 'e67/b/x', 'e67/b', 'e67-x']) await tagged(name, ['v']);
    await pushBlob(server, 'e67/no-manifest', bytesOf(11));
    const mine = (names: string[]): string[] => names.filter((name) => name.startsWith('e67'));
    const expected = ['e67-x', 'e67/a', 'e67/b', 'e67/b/x', 'e67/c'];
    assert.deepEqual(mine((await get(server, '/v2/_catalog')).json().repositories), expected);
    assert.deepEqual(mine((await pages('/v2/_catalog?n=2&last=e66~', 'repositories')).flat()), expected);
    assert.deepEqual((await get(server, '/v2/_catalog?n=2&last=e67/a')).json().repositories, ['e67/b', 'e67/b/x']);
    expectStatus(await ask(server, 'HEAD', '/v2/_catalog'), 200);
  });

  it('E68 names are routed from the right end', async () => {
    const names = [
      'tags',
      'tags/list',
      'manifests',
      'manifests/manifests',
      'blobs',
      'blobs/uploads',
      'blobs/uploads/x',
      'referrers',
      'v2',
      'v2/v2',
      'e68/tags/list',
      'e68/blobs/uploads',
      'e68/manifests/latest',
      'e68/a__b.c-d--e',
      `e68/${'a/'.repeat(40)}z`,
      `e68/${'x'.repeat(251)}`,
    ];
    for (const name of names) {
      const image = await pushImage(server, name, 'latest');
      assert.deepEqual((await get(server, `/v2/${name}/tags/list`)).json(), { name, tags: ['latest'] });
      expectStatus(await get(server, `/v2/${name}/manifests/latest`), 200);
      expectStatus(await get(server, `/v2/${name}/blobs/${image.layerDigest}`), 200);
      assert.deepEqual((await get(server, `/v2/${name}/referrers/${image.digest}`)).json().manifests, []);
    }
    const listed = (await get(server, '/v2/_catalog')).json().repositories;
    for (const name of names) assert.ok(listed.includes(name), name);
    for (const name of [
      `e68/${'x'.repeat(252)}`,
      'E68',
      'e68/-a',
      'e68/a-',
      'e68/a..b',
      'e68/a___b',
      'e68/_a',
      'e68/.',
      'e68/..',
      'e68/a._b',
      'e68/ü'.replace('ü', '%C3%BC'),
    ]) {
      expectError(await get(server, `/v2/${name}/tags/list`), 400, 'NAME_INVALID');
      expectError(await ask(server, 'POST', `/v2/${name}/blobs/uploads/`), 400, 'NAME_INVALID');
    }
  });
});
