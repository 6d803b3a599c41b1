/** What the records of every storage must promise; part of `storageContract`. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FaultError } from '../oci/error.ts';
import type { BlobStorage } from './storage.ts';

/** Registers the tests; `of` gives the storage that is open when they run. */
export function recordsContract(of: () => BlobStorage): void {
  const text = async (name: string): Promise<string | undefined> => {
    const bytes = await of().records.get(name);
    return bytes === undefined ? undefined : Buffer.from(bytes).toString();
  };
  const names = async (prefix: string): Promise<string[]> => {
    const all: string[] = [];
    for await (const name of of().records.list(prefix)) all.push(name);
    return all.sort();
  };

  describe('records', () => {
    test('get, put, replace, delete', async () => {
      assert.equal(await text('r/one.json'), undefined);
      await of().records.put('r/one.json', Buffer.from('first'));
      assert.equal(await text('r/one.json'), 'first');
      await of().records.put('r/one.json', Buffer.from('2'));
      assert.equal(await text('r/one.json'), '2');
      await of().records.put('r/empty', new Uint8Array(0));
      assert.equal(await text('r/empty'), '');
      await of().records.delete('r/one.json');
      await of().records.delete('r/one.json');
      assert.equal(await text('r/one.json'), undefined);
      assert.equal(await text('r/one.json/deeper'), undefined);
      await of().records.delete('nowhere/at/all');
    });

    test('what is put is a copy', async () => {
      const bytes = Buffer.from('same');
      await of().records.put('copy', bytes);
      bytes.fill(0);
      assert.equal(await text('copy'), 'same');
    });

    test('list by prefix, also in the middle of a name', async () => {
      const all = ['l/a/one', 'l/a/two', 'l/ab/three', 'l/b', 'l/c/d/e/f'];
      for (const name of all) await of().records.put(name, Buffer.from(name));
      assert.deepEqual(await names('l/'), all);
      assert.deepEqual(await names('l/a'), ['l/a/one', 'l/a/two', 'l/ab/three']);
      assert.deepEqual(await names('l/a/'), ['l/a/one', 'l/a/two']);
      assert.deepEqual(await names('l/a/t'), ['l/a/two']);
      assert.deepEqual(await names('l/c/d'), ['l/c/d/e/f']);
      assert.deepEqual(await names('l/b'), ['l/b']);
      assert.deepEqual(await names('l/b/'), []);
      assert.deepEqual(await names('nothing/here'), []);
      const every = await names('');
      for (const name of all) assert(every.includes(name));
    });

    test('the longest name and the largest record; one more of either is refused', async () => {
      const name = `${'n'.repeat(127)}/${'m'.repeat(127)}/${'o'.repeat(127)}/${'p'.repeat(128)}`;
      assert.equal(name.length, 512);
      const bytes = Buffer.alloc(4 * 1024 * 1024, 7);
      await of().records.put(name, bytes);
      assert(bytes.equals((await of().records.get(name))!));
      await refused(() => of().records.put(`${name}q`, bytes));
      await refused(() => of().records.put(name, Buffer.alloc(4 * 1024 * 1024 + 1)));
      assert(bytes.equals((await of().records.get(name))!));
    });

    test('names that could leave the place are refused everywhere', async () => {
      const bad = ['', '/', '/etc/passwd', '..', '../x', 'a/..', 'a/../b', 'a..b', '.', './a', 'a/.', 'a/./b', 'a//b'];
      for (const name of [...bad, 'a/', 'A', 'a b', 'a\0', 'a\n', 'ä', 'a\\b', 'a:b', 'a%2e', 'x'.repeat(513)]) {
        await refused(() => of().records.get(name));
        await refused(() => of().records.put(name, new Uint8Array(1)));
        await refused(() => of().records.delete(name));
      }
      for (const prefix of ['/', '/etc', '..', '../', 'a/../', './', 'A', 'a\0', 'a//', 'x'.repeat(513)]) {
        await refused(() => names(prefix));
      }
    });

    test('many writers of one record: one of them wins whole', async () => {
      const values = Array.from({ length: 16 }, (_, i) => String(i).repeat(10_000));
      await Promise.all(values.map((value) => of().records.put('race', Buffer.from(value))));
      assert(values.includes((await text('race'))!));
    });

    test('two writers of one record, again and again: whoever reads meanwhile has the whole of one of them', async () => {
      const value = (writer: string, round: number): string => `${writer}${round} `.repeat(2_000 + round);
      const whole = (read: string): void => {
        const [, writer = '', round = ''] = /^([ab])(\d+) /.exec(read) ?? [];
        assert.equal(read, value(writer, Number(round)));
      };
      await of().records.put('two', Buffer.from(value('a', 0)));
      for (let round = 1; round <= 30; round++) {
        const [, , first, second] = await Promise.all([
          of().records.put('two', Buffer.from(value('a', round))),
          of().records.put('two', Buffer.from(value('b', round))),
          text('two'),
          text('two'),
        ]);
        for (const read of [first, second, await text('two')]) whole(read!);
      }
    });
  });
}

async function refused(work: () => Promise<unknown>): Promise<void> {
  await assert.rejects(work, (error: unknown) => error instanceof FaultError && error.code === 'bug');
}
