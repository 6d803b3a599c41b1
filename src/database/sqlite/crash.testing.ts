/** A process that stores rows and tells each acknowledgement, until a failpoint of its writer thread kills it. */
import { script, TEST_COMMANDS } from '../commands.testing.ts';
import { testOptions } from '../open.testing.ts';
import { openSqlite } from '../open.ts';

const [folder = '', name = '', count = '', from = ''] = process.argv.slice(2);
const database = await openSqlite({
  ...testOptions({ commands: TEST_COMMANDS, writer: new URL('../writer.testing.ts', import.meta.url) }),
  folder,
  durability: 'full',
  failpoint: { name: name as 'writer.commit.before', count: Number(count) },
});
let next = Number(from);
await Promise.all(
  Array.from({ length: 8 }, async () => {
    for (;;) {
      const n = next++;
      const text = 'insert into orphan (key, seen_tick) values (?, ?)';
      await database.run(script, { steps: [1, 2].map((half) => ({ text, values: [`${n} ${half}`, n] })) });
      process.send?.(n);
    }
  }),
);
