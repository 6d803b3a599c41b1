/** Threat case 70: patterns that were written to never end. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { compileGlob } from '../../../src/access/glob.ts';
import { matchesGlob } from '../../../src/kit/glob.ts';
import { ROOT } from '../../support/server.ts';
import { expectStatus, get } from '../support/oci.ts';
import { open } from '../support/open.ts';

/** The meaning of a pattern, spelled out: slow and plain. */
function means(pattern: string, text: string): boolean {
  if (pattern === '') return text === '';
  if (pattern.startsWith('**')) {
    const rest = pattern.replace(/^\*+/, '');
    for (let i = 0; i <= text.length; i += 1) if (means(rest, text.slice(i))) return true;
    return false;
  }
  if (pattern[0] === '?') return text !== '' && text[0] !== '/' && means(pattern.slice(1), text.slice(1));
  if (pattern[0] === '*') {
    for (let i = 0; i <= text.length; i += 1) {
      if (means(pattern.slice(1), text.slice(i))) return true;
      if (text[i] === '/') return false;
    }
    return false;
  }
  return text !== '' && text[0] === pattern[0] && means(pattern.slice(1), text.slice(1));
}

function* words(alphabet: string, longest: number): Generator<string> {
  let layer = [''];
  for (let length = 0; length <= longest; length += 1) {
    yield* layer;
    layer = layer.flatMap((word) => [...alphabet].map((letter) => word + letter));
  }
}

describe('patterns', () => {
  it('T70 the matcher means what is written, for every short pattern and text', () => {
    const texts = [...words('a/b', 4)];
    let wrong = '';
    for (const pattern of words('a/*?', 5)) {
      for (const text of texts) {
        const right = means(pattern, text);
        if (compileGlob(pattern)(text) !== right) wrong += `compiled ${pattern} ${text} `;
        if (matchesGlob(pattern, text) !== right) wrong += `kit ${pattern} ${text} `;
        if (wrong.length > 500) assert.fail(wrong);
      }
    }
    assert.equal(wrong, '');
  });

  it('T70 64 KiB of stars against the longest name and tag end', () => {
    const names = [
      'a'.repeat(255),
      `${'a'.repeat(254)}b`,
      `${'a/'.repeat(127)}a`,
      'a'.repeat(128),
      `${'ab'.repeat(127)}c`,
    ];
    const patterns = ['*a', '**a', 'a*', '*a*b', '*?', '**/', '*a**', '*', 'a**b*'].map(
      (unit) => `${unit.repeat(Math.ceil(65_536 / unit.length))}x`,
    );
    for (const pattern of patterns) {
      for (const name of names) {
        assert.equal(compileGlob(pattern)(name), false);
        assert.equal(matchesGlob(pattern, name), false);
      }
    }
    assert.equal(matchesGlob('*'.repeat(1024), 'a'.repeat(255)), true);
    assert.equal(matchesGlob(`${'**a'.repeat(200)}**`, 'a'.repeat(255)), true);
  });

  it('T70 no regular expression is made of what somebody wrote', () => {
    for (const file of globSync('src/**/*.ts', { cwd: ROOT })) {
      if (/\.(test|contract|testing)\.ts$/.test(file)) continue;
      assert.doesNotMatch(readFileSync(join(ROOT, file), 'utf8'), /new RegExp\(|RegExp\(`|\.match\((?!\/)[a-z]/, file);
    }
  });

  it('T70 a server whose rules are hostile still serves', async () => {
    const hostile = [
      '*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b',
      `${'**a'.repeat(80)}b`,
      `${'*'.repeat(200)}b`,
      `${'*/'.repeat(100)}**`,
    ];
    const server = await open({
      config: { access: { anonymous: 'pull', rules: [{ users: ['*'], repositories: hostile, actions: ['pull'] }] } },
    });
    for (const name of ['a'.repeat(255), `${'a/'.repeat(127)}a`]) {
      const answer = await get(server, `/v2/${name}/tags/list`);
      assert.ok([401, 404].includes(answer.status), String(answer.status));
    }
    expectStatus(await get(server, '/v2/_catalog'), 200);
  });
});
