/** Edge case 93: refusals that a client shall try again. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { basic, expectError, get } from '../support/oci.ts';
import { closed } from '../support/open.ts';

const server = await closed();

describe('too many', () => {
  it('E93 what is refused for now has Retry-After', async () => {
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, i) => get(server, '/token', basic(`user${i}`, 'wrong'))),
    );
    const refused = answers.filter((answer) => answer.status !== 401);
    assert.ok(refused.length > 0, 'nothing was refused for now');
    for (const answer of refused) {
      expectError(answer, answer.status, answer.status === 429 ? 'TOOMANYREQUESTS' : 'UNAVAILABLE');
      assert.ok([429, 503].includes(answer.status));
      assert.ok(Number(answer.header('retry-after')) >= 1);
    }
  });
});
