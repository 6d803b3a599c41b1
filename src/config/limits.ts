/**
 * Every limit of the program in one table: what bounds a request, a connection, a transfer or a queue, and what who
 * meets it is told. docs/limits.md is made from it (`npm run docs`), and so is the `limits` section of the
 * configuration: those with `settable` may be changed there.
 */

/** One limit. */
export interface Limit {
  readonly value: number;
  readonly unit: 'bytes' | 'bytes per second' | 'seconds' | 'count';
  /** Whether `limits.<name>` of the configuration changes it, and between which bounds. */
  readonly settable?: { readonly least: number; readonly most: number };
  readonly meaning: string;
  /** What who meets it is told. */
  readonly answer: string;
}

const KiB = 1024;
const MiB = 1024 * KiB;

/** The table. Names are unique and in camelCase. */
export const LIMITS = {
  connections: {
    value: 10_000,
    unit: 'count',
    settable: { least: 16, most: 1_000_000 },
    meaning: 'Open connections of one process.',
    answer: 'The connection is closed.',
  },
  connectionsPerAddress: {
    value: 1_024,
    unit: 'count',
    settable: { least: 1, most: 1_000_000 },
    meaning: 'Open connections from one client address. Trusted proxies are excepted.',
    answer: 'The connection is closed.',
  },
  targetBytes: {
    value: 8 * KiB,
    unit: 'bytes',
    meaning: 'Path and query of a request.',
    answer: '414 UNSUPPORTED',
  },
  headerBytes: {
    value: 16 * KiB,
    unit: 'bytes',
    meaning: 'All headers of a request together.',
    answer: '431 UNSUPPORTED, and the connection is closed',
  },
  headerCount: {
    value: 200,
    unit: 'count',
    meaning: 'Headers of one request.',
    answer: 'Headers beyond are not read.',
  },
  headersSeconds: {
    value: 20,
    unit: 'seconds',
    settable: { least: 1, most: 600 },
    meaning: 'Time for all headers of a request to arrive.',
    answer: '408 UNAVAILABLE, and the connection is closed',
  },
  keepAliveSeconds: {
    value: 75,
    unit: 'seconds',
    settable: { least: 1, most: 3_600 },
    meaning: 'How long a connection may stay open without a request.',
    answer: 'The connection is closed.',
  },
  handshakeSeconds: {
    value: 10,
    unit: 'seconds',
    settable: { least: 1, most: 120 },
    meaning: 'Time for a TLS handshake.',
    answer: 'The connection is closed.',
  },
  http2Streams: {
    value: 128,
    unit: 'count',
    settable: { least: 1, most: 10_000 },
    meaning: 'Requests under way in one HTTP/2 connection.',
    answer: 'RST_STREAM REFUSED_STREAM',
  },
  http2StreamWindowBytes: {
    value: MiB,
    unit: 'bytes',
    meaning: 'What a client may send on one HTTP/2 stream before it is read.',
    answer: 'The client waits.',
  },
  http2SessionWindowBytes: {
    value: 16 * MiB,
    unit: 'bytes',
    meaning: 'What a client may send on one HTTP/2 connection before it is read.',
    answer: 'The client waits.',
  },
  minimumRate: {
    value: KiB,
    unit: 'bytes per second',
    settable: { least: 0, most: 1024 * MiB },
    meaning: 'Slowest body, up or down, on average over `minimumRateSeconds`. 0 turns it off.',
    answer: 'The connection is reset; an upload keeps what arrived.',
  },
  minimumRateSeconds: {
    value: 60,
    unit: 'seconds',
    settable: { least: 5, most: 3_600 },
    meaning: 'The window of `minimumRate`.',
    answer: 'See `minimumRate`.',
  },
  manifestBytes: {
    value: 4 * MiB,
    unit: 'bytes',
    meaning: 'A manifest. The configuration may lower it: `manifests.maxBytes`.',
    answer: '413 MANIFEST_INVALID',
  },
  manifestDepth: {
    value: 128,
    unit: 'count',
    meaning: 'Levels of nesting in a manifest.',
    answer: '400 MANIFEST_INVALID',
  },
  tagsPerPush: {
    value: 50,
    unit: 'count',
    meaning: '`tag` parameters of one manifest push by digest.',
    answer: '414 UNSUPPORTED',
  },
  repositoryNameBytes: {
    value: 255,
    unit: 'bytes',
    meaning: "A repository's name.",
    answer: '400 NAME_INVALID',
  },
  tagBytes: {
    value: 128,
    unit: 'bytes',
    meaning: 'A tag.',
    answer: '400 NAME_INVALID on a push, 404 MANIFEST_UNKNOWN otherwise',
  },
  tagsPage: {
    value: 10_000,
    unit: 'count',
    meaning: 'Tags of one page; more are clamped and a Link header leads on.',
    answer: 'A page and a Link header.',
  },
  catalogPage: {
    value: 10_000,
    unit: 'count',
    meaning: 'Repositories of one page of the catalog; without `n` 1,000.',
    answer: 'A page and a Link header.',
  },
  referrersPage: {
    value: 1_000,
    unit: 'count',
    meaning: 'Referrers of one page.',
    answer: 'A page and a Link header.',
  },
  inlineBytes: {
    value: 32 * KiB,
    unit: 'bytes',
    meaning: 'A blob that is committed with its bytes in the database and stored as a file afterwards.',
    answer: 'Larger ones go to storage at once.',
  },
  mountSources: {
    value: 100,
    unit: 'count',
    meaning: 'Repositories that are tried for a mount without `from`.',
    answer: '202, and the client uploads',
  },
  transferBufferBytes: {
    value: 64 * MiB,
    unit: 'bytes',
    settable: { least: MiB, most: 16 * 1024 * MiB },
    meaning: 'Buffers of all transfers of one process together.',
    answer: 'The transfer waits.',
  },
  discardBytes: {
    value: 16 * MiB,
    unit: 'bytes',
    meaning: 'What is read and dropped of a body that was answered early.',
    answer: 'The connection is closed.',
  },
  writerQueue: {
    value: 4_096,
    unit: 'count',
    meaning: 'Changes that wait for the one writer of SQLite.',
    answer: '503 UNAVAILABLE with Retry-After',
  },
  writerBatch: {
    value: 256,
    unit: 'count',
    meaning: 'Changes of one transaction of the writer, which is also at most 8 MiB and 20 ms.',
    answer: 'The rest is in the next transaction.',
  },
  passwordBytes: {
    value: KiB,
    unit: 'bytes',
    meaning: 'A password.',
    answer: '401 UNAUTHORIZED',
  },
  tokenScopes: {
    value: 100,
    unit: 'count',
    meaning: '`scope` parameters of one token request, each at most 1 KiB.',
    answer: '400',
  },
  tokenFormBytes: {
    value: 16 * KiB,
    unit: 'bytes',
    meaning: 'The form of a token request.',
    answer: '413',
  },
  apiBodyBytes: {
    value: 64 * KiB,
    unit: 'bytes',
    meaning: 'The body of a request to `/api/v1/`.',
    answer: '413 too_large',
  },
  apiPage: {
    value: 1_000,
    unit: 'count',
    meaning: 'Items of one page of `/api/v1/`; without `limit` 100.',
    answer: '400 invalid; a page has a Link header and `next`',
  },
  holdsPerRepository: {
    value: 1_000,
    unit: 'count',
    meaning: 'Holds of one repository, whose reasons are at most 1,000 characters.',
    answer: '409 conflict',
  },
  configurationBytes: {
    value: MiB,
    unit: 'bytes',
    meaning: 'The configuration file, and each file that holds a secret.',
    answer: 'Longshore does not start and says why.',
  },
  adminBodyBytes: {
    value: 64 * KiB,
    unit: 'bytes',
    meaning: 'A request on the admin socket.',
    answer: '413',
  },
} as const satisfies Readonly<Record<string, Limit>>;

/** A limit's name. */
export type LimitName = keyof typeof LIMITS;

/** The names that the configuration may set. */
export const SETTABLE = Object.entries(LIMITS)
  .filter(
    (entry): entry is [LimitName, (typeof LIMITS)[LimitName] & { settable: { least: number; most: number } }] =>
      'settable' in entry[1],
  )
  .map(([name, limit]) => ({ name, ...limit }));

/** docs/limits.md, whole. */
export function limitsDocument(): string {
  const lines = [
    '# Limits',
    '',
    'Made by `npm run docs` from `src/config/limits.ts`; do not edit. Those with a range can be set in the `limits`',
    'section of the configuration.',
    '',
    '| limit | value | may be set | what it bounds | who meets it |',
    '|---|---|---|---|---|',
  ];
  for (const [name, limit] of Object.entries<Limit>(LIMITS)) {
    const range =
      limit.settable === undefined
        ? ''
        : `${amount(limit.settable.least, limit.unit)} to ${amount(limit.settable.most, limit.unit)}`;
    lines.push(`| \`${name}\` | ${amount(limit.value, limit.unit)} | ${range} | ${limit.meaning} | ${limit.answer} |`);
  }
  return `${lines.join('\n')}\n`;
}

function amount(value: number, unit: Limit['unit']): string {
  if (unit === 'count') return value.toLocaleString('en');
  if (unit === 'seconds') return `${value.toLocaleString('en')} s`;
  const size =
    value !== 0 && value % (1024 * MiB) === 0
      ? `${value / (1024 * MiB)} GiB`
      : value !== 0 && value % MiB === 0
        ? `${value / MiB} MiB`
        : value !== 0 && value % KiB === 0
          ? `${value / KiB} KiB`
          : `${value} B`;
  return unit === 'bytes' ? size : `${size}/s`;
}
