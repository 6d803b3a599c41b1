/** A process that joins the database of its parent, says what it sees, and does what it is told. */
import type { RepositoryName, Tag } from '../../oci/names.ts';
import { addRepository, script, TEST_COMMANDS } from '../commands.testing.ts';
import { testOptions } from '../open.testing.ts';
import { joinSqlite } from '../open.ts';
import type { Channel } from './channel.ts';

const channel: Channel = {
  send: (message) => void process.send?.(message),
  onMessage(listener) {
    process.on('message', listener);
    return () => process.off('message', listener);
  },
  onClose(listener) {
    process.on('disconnect', listener);
    return () => process.off('disconnect', listener);
  },
};
const database = await joinSqlite(
  { ...testOptions({ commands: TEST_COMMANDS }), folder: process.argv[2] ?? '' },
  channel,
);
const said = (kind: string, value: unknown) => process.send?.({ kind, value });
let version = database.dataVersion();
database.onTouched((names) => said('touched', names));

const deeds: Record<string, () => Promise<unknown>> = {
  add: () => database.run(addRepository, { name: 'from/member' }),
  fail: () =>
    database.run(script, { steps: [], fail: 'registry' }).catch((error) => [error.name, error.code, error.detail]),
  bytes: async () => {
    const [rows] = await database.run(script, {
      steps: [
        { text: 'select length(?) as n, ? as bytes', values: [new Uint8Array(70_000), new Uint8Array([1, 2, 3])] },
      ],
    });
    const [row] = rows as [{ n: number; bytes: Uint8Array }];
    return [row.n, [...row.bytes]];
  },
  see: () => database.query.all('select name from repository order by name'),
  hot: async () => (await database.hot.manifestByTag('a/b' as RepositoryName, 'v1' as Tag))?.mediaType,
  version: async () => {
    const before = version;
    version = database.dataVersion();
    return version !== before;
  },
  ping: () => database.ping().then(() => 'there'),
  close: () => database.close(),
};

process.on('message', async (message: { deed?: string }) => {
  const { deed } = message;
  if (deed === undefined) return;
  const work = deeds[deed];
  said(deed, work === undefined ? undefined : await work());
  if (deed === 'close') process.disconnect?.();
});
said('ready', null);
