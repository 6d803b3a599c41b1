import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { afterEach, describe, test } from 'node:test';
import { native, useNative } from './ffi.ts';
import { createHasher, type HashAlgorithm, resumeHasher } from './hash-stream.ts';

const text = Buffer.alloc(1_000_003, 'The quick brown fox jumps over the lazy dog. ');
const expected = (algorithm: HashAlgorithm, length: number): string =>
  createHash(algorithm).update(text.subarray(0, length)).digest('hex');

for (const accelerated of [true, false]) {
  describe(`hashes, accelerator ${accelerated ? 'on' : 'off'}`, () => {
    afterEach(() => useNative(true));

    for (const algorithm of ['sha256', 'sha512'] as const) {
      test(`${algorithm}: right at every boundary, goes on after a digest`, () => {
        useNative(accelerated);
        for (const length of [0, 1, 55, 56, 63, 64, 65, 111, 112, 127, 128, 129, 1000, 65_536, 1_000_003]) {
          for (const step of [1, 63, 64, 100, 128, 4096, 1_000_003]) {
            if (length / step > 2000) continue;
            const hasher = createHasher(algorithm);
            for (let at = 0; at < length; at += step) hasher.update(text.subarray(at, Math.min(length, at + step)));
            hasher.update(new Uint8Array(0));
            assert.equal(hasher.length, length);
            assert.equal(hasher.digestHex(), expected(algorithm, length));
            assert.equal(hasher.digestHex(), expected(algorithm, length));
            if (length + 10 > text.length) continue;
            hasher.update(text.subarray(length, length + 10));
            assert.equal(hasher.digestHex(), expected(algorithm, length + 10));
          }
        }
      });

      test(`${algorithm}: a state resumes where it was, or is undefined`, () => {
        useNative(accelerated);
        for (const length of [0, 1, 63, 64, 65, 127, 128, 129, 5000, 999_999]) {
          const first = createHasher(algorithm);
          first.update(text.subarray(0, length));
          const state = first.exportState();
          assert.equal(state !== undefined, accelerated && native()[algorithm] !== undefined);
          if (state === undefined) continue;
          first.update(Buffer.from('something else'));
          const again = resumeHasher(algorithm, new Uint8Array(state))!;
          assert.equal(again.length, length);
          assert.deepEqual(again.exportState(), state);
          again.update(text.subarray(length));
          assert.equal(again.digestHex(), expected(algorithm, text.length));
        }
      });
    }
  });
}

test('this Node has the accelerator; its hints may be called on any descriptor', () => {
  assert(native().sha256 !== undefined && native().sha512 !== undefined);
  native().startWriteBack?.(-1, 0, 10);
  native().forgetPages?.(-1, 0, 10);
  native().trimHeap?.();
});

test('a state that is not one is refused, and none can move the counters (threats.md, case 9)', () => {
  const hasher = createHasher('sha256');
  hasher.update(text.subarray(0, 100));
  const state = hasher.exportState()!;
  const changed = (change: (bytes: Buffer) => void): Uint8Array => {
    const bytes = Buffer.from(state);
    change(bytes);
    return bytes;
  };
  const bad = [
    new Uint8Array(0),
    state.subarray(1),
    Buffer.concat([state, Buffer.alloc(1)]),
    changed((bytes) => bytes.writeUInt8(2, 0)),
    changed((bytes) => bytes.writeUInt8(2, 1)),
    changed((bytes) => bytes.writeBigUInt64LE(2n ** 63n, 2)),
    changed((bytes) => bytes.writeBigUInt64LE(2n ** 53n, 2)),
    changed((bytes) => bytes.writeUInt8(1, bytes.length - 1)),
    Buffer.from('{"not":"a state"}'.padEnd(106)),
  ];
  for (const bytes of bad) assert.equal(resumeHasher('sha256', bytes), undefined);
  assert.equal(resumeHasher('sha512', state), undefined);
  for (let i = 0; i < 2000; i++) {
    const bytes = Buffer.from(state);
    for (let k = 0; k < 4; k++) bytes[(i * 31 + k * 17) % bytes.length] = (i * 7 + k * 101) & 0xff;
    const resumed = resumeHasher('sha256', bytes);
    resumed?.update(text.subarray(0, 1000));
    assert.match(resumed?.digestHex() ?? '0'.repeat(64), /^[0-9a-f]{64}$/);
  }
});

test('a Node without node:ffi takes the plain way; with it no warning is written', () => {
  const script = `
    import { createHasher, resumeHasher } from ${JSON.stringify(new URL('./hash-stream.ts', import.meta.url).href)};
    const hasher = createHasher('sha256');
    hasher.update(Buffer.from('abc'));
    console.log(hasher.digestHex().slice(0, 8), hasher.exportState() === undefined);`;
  for (const [flags, plain] of [
    [['--no-experimental-ffi'], true],
    [[], false],
  ] as const) {
    const { stdout, stderr } = spawnSync(process.execPath, [...flags, '--input-type=module', '-e', script], {
      encoding: 'utf8',
    });
    assert.equal(stdout, `ba7816bf ${plain}\n`);
    assert.doesNotMatch(stderr, /FFI/);
  }
});
