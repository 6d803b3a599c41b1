/**
 * Threat case 76 for what the program itself is given: keys of object stores, passwords of databases and of other
 * registries. Whatever goes wrong with them, none of them is said.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createTcp } from 'node:net';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { startLongshore } from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { cli } from '../support/open.ts';

const CANARIES = {
  key: 'CANARYKEY7F3A',
  secret: 'canary-secret-81c2',
  session: 'canary-session-55d0',
  database: 'canary-database-92ee',
  account: Buffer.from('canary-account-key-1b6d').toString('base64'),
  sas: 'canary-sas-d4f8',
  connection: Buffer.from('canary-connection-6e21').toString('base64'),
  registry: 'canary-registry-a7b3',
  other: 'canary-other-store-0c9a',
  address: 'canary-address-3d5e',
  gcs: 'canary-gcs-key-77aa',
};

function refuseLeaks(what: string, text: string): void {
  const forms = (canary: string): string[] => [
    canary,
    encodeURIComponent(canary),
    Buffer.from(canary).toString('base64').replace(/=+$/, '').slice(0, -1),
  ];
  for (const [name, canary] of Object.entries(CANARIES))
    for (const form of forms(canary))
      assert.ok(!text.includes(form), `${what} shows ${name}:\n${text.slice(0, 3_000)}`);
  // A signature lets whoever sees it do the same for a while.
  assert.doesNotMatch(text, /Signature=[0-9a-f]{16}|X-Amz-Signature=|AWS4-HMAC|SharedKey |sig=[A-Za-z0-9%]/i, what);
  assert.doesNotMatch(text, /^\s+at .*\.(ts|js):\d+/m, `${what} shows a stack`);
}

/** A store that refuses everything and says back all that it was told. */
const echo: Server = createServer((request, response) => {
  request.resume();
  const said = [request.method, request.url, ...request.rawHeaders].join(' ').replace(/[<&]/g, ' ');
  response.writeHead(403, { 'content-type': 'application/xml', 'x-ms-error-code': said.replace(/[^\x20-\x7e]/g, '') });
  response.end(`<?xml version="1.0"?><Error><Code>${said}</Code><Message>${said}</Message></Error>`);
});
echo.listen(0, '127.0.0.1');
await once(echo, 'listening');
const { port } = echo.address() as { port: number };
const endpoint = `http://127.0.0.1:${port}`;
after(() => echo.close());

/** A database that says back what it was told, as an error. */
const database = createTcp((socket) => {
  socket.on('error', () => {});
  socket.on('data', (data: Buffer) => {
    const text = data.toString('latin1').replace(/[^\x20-\x7e]+/g, ' ');
    const fields = `SFATAL\0C28P01\0Mpassword authentication failed: ${text}\0\0`;
    const head = Buffer.from([0x45, 0, 0, 0, 0]);
    head.writeInt32BE(fields.length + 4, 1);
    // A question for TLS gets a no; everything else the error.
    socket.write(data.length === 8 ? 'N' : Buffer.concat([head, Buffer.from(fields, 'latin1')]));
  });
});
database.listen(0, '127.0.0.1');
await once(database, 'listening');
const databasePort = (database.address() as { port: number }).port;
after(() => database.close());

const stores = {
  s3: {
    ...{ bucket: 'bucket', endpoint, forcePathStyle: true },
    ...{ accessKeyId: CANARIES.key, secretAccessKey: CANARIES.secret, sessionToken: CANARIES.session },
  },
  azure: { container: 'container', account: 'account', endpoint, accountKey: CANARIES.account },
};

function fileOf(config: object): string {
  const path = join(temporaryFolder('config'), 'longshore.yaml');
  writeFileSync(path, JSON.stringify(config));
  return path;
}

describe('secrets that the program is given', { concurrency: 3 }, () => {
  it('T76 config show and config check show none, of any section', async () => {
    const everything = {
      storage: {
        ...{ driver: 's3', ...stores },
        azure: {
          ...{ container: 'container', accountKey: CANARIES.account, sasToken: `sv=1&sig=${CANARIES.sas}` },
          connectionString: `AccountName=a;AccountKey=${CANARIES.connection}`,
        },
      },
      database: { url: `postgres://user:${CANARIES.database}@127.0.0.1/longshore` },
      heal: {
        registries: [{ url: 'https://registry.example', username: 'u', password: CANARIES.registry }],
        storages: [{ driver: 's3', s3: { ...stores.s3, secretAccessKey: CANARIES.other } }],
      },
      server: { metricsToken: `${CANARIES.other}-metrics` },
    };
    const shown = await cli(['config', 'show', '--config', fileOf(everything)]);
    assert.equal(shown.code, 0, shown.output);
    assert.match(shown.output, /secretAccessKey: "?\*\*\*/);
    refuseLeaks('config show', shown.output);
    for (const wrong of [
      {
        ...everything,
        storage: { ...everything.storage, s3: { ...stores.s3, secretAccessKey: { value: CANARIES.secret } } },
      },
      { ...everything, heal: { registries: [{ url: `https://u:${CANARIES.registry}@registry.example` }] } },
    ]) {
      const checked = await cli(['config', 'check', '--config', fileOf(wrong)]);
      assert.notEqual(checked.code, 0);
      refuseLeaks('config check', checked.output);
    }
  });

  it('T76 a store that refuses, and says back all that it was told: no command and no start repeats it', async () => {
    const backups = [
      `s3://bucket/backups?endpoint=${endpoint}&pathStyle=true`,
      `azblob://container/backups?endpoint=${endpoint}`,
      `s3://${CANARIES.key}:${CANARIES.address}@bucket/backups`,
      `s3://bucket/backups?secretAccessKey=${CANARIES.address}`,
    ];
    const config = fileOf({ storage: stores });
    const commands = [
      ['backup', '--to'],
      ['backup', 'verify', '--to'],
      ['restore', '--from'],
    ];
    for (const [at, place] of backups.entries()) {
      const command = commands[at % commands.length]!;
      const ran = await cli([...command, place, '--config', config, '--data', temporaryFolder('data')]);
      assert.notEqual(ran.code, 0, `${command.join(' ')} ${place}: ${ran.output}`);
      refuseLeaks(`${command.join(' ')} ${place.slice(0, 12)}`, ran.output);
    }
    for (const storage of [
      { driver: 's3', s3: stores.s3 },
      {
        driver: 'azure',
        azure: { container: 'container', endpoint, account: 'account', sasToken: `sv=1&sig=${CANARIES.sas}` },
      },
      {
        driver: 'azure',
        azure: {
          container: 'container',
          connectionString: `DefaultEndpointsProtocol=http;AccountName=a;AccountKey=${CANARIES.connection};BlobEndpoint=${endpoint}/a;`,
        },
      },
      { driver: 'gcs', gcs: { bucket: 'bucket', endpoint, keyFile: keyFile() } },
    ]) {
      const server = await startLongshore({ config: { storage, log: { level: 'debug' } }, wait: false });
      const { code } = await server.exited;
      assert.notEqual(code, 0);
      assert.ok(server.output().length > 10);
      refuseLeaks(`a start on ${storage.driver}`, server.output());
    }
  });

  it('T76 a database that refuses, or is not there: no start and no command says its password', async () => {
    const urls = [
      `postgres://user:${CANARIES.database}@127.0.0.1:${databasePort}/longshore`,
      `postgres://user:${CANARIES.database}@[::1/longshore`,
    ];
    for (const url of urls) {
      const server = await startLongshore({ config: { database: { url }, log: { level: 'debug' } }, wait: false });
      const over = await Promise.race([server.exited.then(() => true), sleep(2_500)]);
      if (over !== true) await server.kill();
      refuseLeaks('a start', server.output());
    }
    const data = temporaryFolder('data');
    for (const args of [
      ['migrate', '--from', `sqlite://${data}`, '--to', urls[0]!],
      ['migrate', '--from', `sqlite://${data}`, '--to', `mysql://user:${CANARIES.database}@host/db`],
      ['migrate', '--from', urls[1]!, '--to', `sqlite://${data}`],
      ['migrate', '--from', `${urls[0]!} x`, '--to', `sqlite://${data}`],
    ]) {
      const ran = await cli([...args, '--data', data]);
      assert.notEqual(ran.code, 0, ran.output);
      refuseLeaks('migrate', ran.output);
    }
  });
});

/** A service account's key that signs nothing: what is not a key, but looks like one. */
function keyFile(): string {
  const path = join(temporaryFolder('key'), 'key.json');
  const key = { type: 'service_account', client_email: 'a@b.example', private_key: CANARIES.gcs, private_key_id: 'x' };
  writeFileSync(path, JSON.stringify({ ...key, token_uri: `${endpoint}/token` }));
  return path;
}

function sleep(ms: number): Promise<false> {
  return new Promise((resolve) => setTimeout(resolve, ms, false));
}
