import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { reserveBeside } from './reserve.ts';

describe('the reserve of a database', () => {
  const folder = mkdtempSync(join(tmpdir(), 'longshore-reserve-'));
  after(() => rmSync(folder, { recursive: true, force: true }));

  test('is taken once, given once, and known after a restart', () => {
    const path = join(folder, 'longshore.db');
    const reserve = reserveBeside(path, () => 0);
    assert.equal(reserve.give(), false);
    reserve.take();
    const { size } = statSync(`${path}-reserve`);
    assert.ok(size > 0 && size <= 4 * 1024 * 1024, `${size}`);
    assert.equal(reserveBeside(path, () => 0).give(), true);
    assert.equal(existsSync(`${path}-reserve`), false);
    // The one that is gone without its doing is no fault.
    assert.equal(reserve.give(), true);
    assert.equal(reserve.give(), false);
  });

  test('what could not be taken leaves nothing, and is not tried again for a minute', () => {
    const place = join(folder, 'later');
    let time = 0;
    const reserve = reserveBeside(join(place, 'longshore.db'), () => time);
    reserve.take();
    assert.equal(reserve.give(), false);
    mkdirSync(place);
    time = 59_999;
    reserve.take();
    assert.equal(existsSync(join(place, 'longshore.db-reserve')), false);
    time = 60_000;
    reserve.take();
    assert.equal(existsSync(join(place, 'longshore.db-reserve')), true);
  });
});
