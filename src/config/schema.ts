/**
 * The configuration's schema: one object from which come the checks at start, the environment's names, the JSON
 * schema, and the documentation. The rooms that have settings of their own (access, features) hand in their schema.
 */
import * as z from 'zod';
import { access } from './access-schema.ts';
import { LIMITS, type LimitName, SETTABLE } from './limits.ts';
import { storage } from './storage-schema.ts';
import { heal, scrub } from './trust-schema.ts';
import { addressRange, bytes, duration, listenAddress, secret, webAddress } from './values.ts';

/** The program's identity files for TLS. */
const tls = z
  .strictObject({
    certificate: z.string().min(1).describe('PEM file with the certificate and its chain. Read again when it changes.'),
    key: z.string().min(1).describe('PEM file with the private key. Read again when it changes.'),
    clientCa: z
      .string()
      .min(1)
      .optional()
      .describe('PEM file with the authorities whose client certificates are accepted.'),
    requireClientCertificate: z
      .boolean()
      .default(false)
      .describe('Refuse connections without a certificate of `clientCa`.'),
  })
  .refine((given) => !given.requireClientCertificate || given.clientCa !== undefined, {
    message: 'requireClientCertificate needs clientCa',
  });

const server = z.strictObject({
  listen: listenAddress.prefault('127.0.0.1:5000').describe('Where to serve.'),
  publicUrl: webAddress()
    .optional()
    .describe(
      'The address by which clients reach the registry, for the token realm. Absent: the Host of each request.',
    ),
  trustedProxies: z
    .array(addressRange)
    .max(1_000)
    .default([])
    .describe('Proxies whose X-Forwarded-* and Forwarded headers are believed. Nobody else’s are.'),
  processes: z
    .int()
    .min(1)
    .max(64)
    .default(1)
    .describe(
      'How many processes of this machine serve. With SQLite all changes go through one writer; with PostgreSQL each process has its own connections, and so has the one that started them.',
    ),
  tls: tls.optional().describe('Serve HTTPS and HTTP/2. Absent: plain HTTP/1.1.'),
  metricsListen: listenAddress
    .optional()
    .describe('A listener of its own for /metrics, /livez and /readyz. Absent: they are on `listen`.'),
  metricsToken: z
    .string()
    .min(16)
    .optional()
    .meta({ secret: true })
    .describe('A bearer token that /metrics asks for. Without it, /metrics on `listen` answers this machine only.'),
  drainSeconds: z
    .int()
    .min(0)
    .max(3_600)
    .default(30)
    .describe('How long transfers may take to finish when the server stops.'),
  notReadySeconds: z
    .int()
    .min(0)
    .max(600)
    .optional()
    .describe('How long the server says "not ready" and still serves before it stops. Absent: 5, on loopback 0.'),
  corsOrigins: z
    .array(z.url({ protocol: /^https?$/ }))
    .max(100)
    .default([])
    .describe('Web origins whose pages may read answers.'),
});

const database = z.strictObject({
  url: secret(z.string().regex(/^postgres(ql)?:\/\/\S+$/, 'must be as in "postgres://user:password@host/database"'))
    .optional()
    .describe('A PostgreSQL database that any number of servers share. Absent: SQLite in the data folder.'),
  connections: z.int().min(2).max(1_000).default(10).describe('Most connections of one process to PostgreSQL.'),
  waiting: z
    .int()
    .min(0)
    .max(100_000)
    .default(512)
    .describe('How many statements may wait for a connection; more are answered with 503.'),
});

const manifests = z.strictObject({
  sparse: z
    .enum(['none', 'indexes', 'all'])
    .default('none')
    .describe('Which manifests may name what is not here: none, image indexes, or all.'),
  maxBytes: bytes({ least: 1_024, most: LIMITS.manifestBytes.value })
    .prefault(LIMITS.manifestBytes.value)
    .describe('The largest manifest.'),
});

const uploads = z.strictObject({
  lifetime: duration({ least: 60_000, most: 365 * 86_400_000 })
    .prefault('7d')
    .describe('How long an upload may rest before it is removed, counted while the server is up.'),
});

const gc = z.strictObject({
  enabled: z.boolean().default(true).describe('Remove what nothing refers to.'),
  tick: duration({ least: 1_000, most: 3_600_000 })
    .prefault('10m')
    .describe('The unit in which all that ends in deletion is counted, while the server is up.'),
  graceTicks: z.int().min(4).max(100_000).default(144).describe('How long an unreferenced blob stays.'),
  undeleteTicks: z
    .int()
    .min(1)
    .max(1_000_000)
    .default(1008)
    .describe('How long a deleted tag or manifest can be brought back.'),
  deleteAfterTicks: z
    .int()
    .min(1)
    .max(10_000)
    .default(6)
    .describe('How long after a blob was given up its bytes are removed.'),
  haltPercent: z
    .int()
    .min(1)
    .max(100)
    .default(50)
    .describe('Nothing is removed while more than this share of all blobs would go at once; 100 never halts.'),
  dryRun: z.boolean().default(false).describe('Only say in the log what would be removed.'),
});

const log = z.strictObject({
  level: z
    .enum(['debug', 'info', 'warn', 'error'])
    .default('info')
    .describe('The least serious lines that are written.'),
  format: z.enum(['json']).default('json').describe('One JSON object a line.'),
  access: z
    .union([z.boolean(), z.string().min(1)])
    .default(true)
    .describe('The access log: true for standard output, a file’s path, or false.'),
});

const tracing = z.strictObject({
  endpoint: webAddress()
    .optional()
    .describe('The OTLP/HTTP address that traces are sent to, as in http://127.0.0.1:4318/v1/traces. Absent: none.'),
  sampleRatio: z.number().min(0).max(1).default(1).describe('Which part of the requests is traced.'),
});

const limits = z.strictObject(
  Object.fromEntries(SETTABLE.map((limit) => [limit.name, settable(limit)])) as Record<SettableName, SettableSchema>,
);

type SettableSchema = ReturnType<typeof settable>;

function settable(limit: (typeof SETTABLE)[number]) {
  const { least, most } = limit.settable;
  const schema = z.int().min(least).max(most).prefault(limit.value);
  return schema.describe(limit.unit === 'count' ? limit.meaning : `${limit.meaning} In ${limit.unit}.`);
}

type SettableName = { [K in LimitName]: (typeof LIMITS)[K] extends { settable: object } ? K : never }[LimitName];

/** The sections that this room knows. */
export const CORE_SECTIONS = {
  server: server.prefault({}).describe('Listening, proxies, stopping.'),
  data: z.string().min(1).default('./data').describe('The data folder: the database, and the blobs of the fs driver.'),
  storage: storage.prefault({}).describe('Where blobs lie.'),
  database: database.prefault({}).describe('What is known about the blobs: SQLite, or PostgreSQL.'),
  manifests: manifests.prefault({}).describe('What is accepted as a manifest.'),
  uploads: uploads.prefault({}).describe('Uploads under way.'),
  gc: gc.prefault({}).describe('Garbage collection.'),
  scrub: scrub.prefault({}).describe('Looking for damaged bytes.'),
  heal: heal.prefault({}).describe('Where damaged bytes are fetched again.'),
  access: access.prefault({}).describe('Who may do what.'),
  log: log.prefault({}).describe('Logs.'),
  tracing: tracing.prefault({}).describe('OpenTelemetry traces.'),
  limits: limits.prefault({}).describe('Limits that may be changed; docs/limits.md has all.'),
};

/** The core's part of a checked configuration. */
export type CoreConfig = { readonly [K in keyof typeof CORE_SECTIONS]: z.output<(typeof CORE_SECTIONS)[K]> };

/** Schemas by section name. */
export type Sections = Readonly<Record<string, z.ZodType>>;

/** The whole schema: the core's sections and those handed in. A section of both is a mistake in the program. */
export function configSchema<S extends Sections>(sections: S) {
  for (const name of Object.keys(sections)) {
    if (name in CORE_SECTIONS) throw new Error(`two configuration sections are called ${name}`);
  }
  return z.strictObject({ ...CORE_SECTIONS, ...sections }).refine(redirectsEndInTime, {
    message: 'an address must not outlive deleted bytes: at most gc.deleteAfterTicks × gc.tick',
    path: ['storage', 'redirect', 'lifetime'],
  });
}

function redirectsEndInTime(given: unknown): boolean {
  const { storage, gc } = given as CoreConfig;
  return storage.driver === 'fs' || storage.redirect.lifetime <= gc.deleteAfterTicks * gc.tick;
}

/** The JSON schema (2020-12) of what may be written. */
export function jsonSchema(schema: z.ZodType): object {
  return z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
}
