/**
 * Which addresses a server that was given a URL may connect to. What is judged is always the address itself, never its
 * spelling, and what is not known to be public is not public. IANA's special-purpose registries (RFC 6890) as they are
 * in 2026, with every way in which IPv6 wraps an IPv4 address, and the metadata services of clouds.
 */
import { isIPv4, isIPv6 } from 'node:net';

/**
 * public: anybody's; private: this machine, or a network of one's own; reserved: nothing that a server has business
 * with (link-local, multicast, documentation, metadata services, what cannot be read).
 */
export type AddressKind = 'public' | 'private' | 'reserved';

/** What an administrator opened. */
export interface AddressPolicy {
  /** Private addresses too. Default: no. Reserved ones stay closed. */
  readonly allowPrivateAddresses?: boolean;
  /** Networks that are open whatever they are, as in `169.254.10.0/24`. What cannot be read opens nothing. */
  readonly allowedNetworks?: readonly string[];
}

type Range = readonly [bytes: Uint8Array, bits: number, kind: AddressKind];

/** 4 or 16 bytes, or undefined where the text is no address. Zones (`%eth0`) are not taken. */
export function addressBytes(text: string): Uint8Array | undefined {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number);
  if (!isIPv6(text) || text.includes('%')) return undefined;
  let groups = text;
  const dot = text.lastIndexOf(':');
  if (text.includes('.')) {
    const [a = 0, b = 0, c = 0, d = 0] = text
      .slice(dot + 1)
      .split('.')
      .map(Number);
    groups = `${text.slice(0, dot + 1)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [head = '', tail] = groups.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const bytes = new Uint8Array(16);
  const put = (group: string, at: number): void => {
    const value = Number.parseInt(group, 16);
    bytes[at * 2] = value >> 8;
    bytes[at * 2 + 1] = value & 255;
  };
  for (const [at, group] of left.entries()) put(group, at);
  for (const [at, group] of right.entries()) put(group, 8 - right.length + at);
  return bytes;
}

function range(network: string, kind: AddressKind): Range {
  const found = parseNetwork(network);
  if (found === undefined) throw new TypeError(`not a network: ${network}`);
  return [...found, kind];
}

function parseNetwork(text: string): readonly [bytes: Uint8Array, bits: number] | undefined {
  const [address = '', length, more] = text.split('/');
  const bytes = addressBytes(address);
  if (bytes === undefined || more !== undefined) return undefined;
  if (length === undefined) return [bytes, bytes.length * 8];
  const bits = /^\d{1,3}$/.test(length) ? Number(length) : Number.NaN;
  return bits >= 0 && bits <= bytes.length * 8 ? [bytes, bits] : undefined;
}

function within(address: Uint8Array, network: Uint8Array, bits: number): boolean {
  if (address.length !== network.length) return false;
  const whole = bits >> 3;
  for (let i = 0; i < whole; i++) if (address[i] !== network[i]) return false;
  const rest = bits & 7;
  return rest === 0 || (address[whole]! ^ network[whole]!) >> (8 - rest) === 0;
}

/** The first that holds an address counts. IPv4 beyond them is public. */
const RANGES_4: readonly Range[] = [
  range('100.100.100.200/32', 'reserved'), // Alibaba's metadata
  range('168.63.129.16/32', 'reserved'), // Azure's
  range('10.0.0.0/8', 'private'),
  range('100.64.0.0/10', 'private'),
  range('127.0.0.0/8', 'private'),
  range('172.16.0.0/12', 'private'),
  range('192.168.0.0/16', 'private'),
  range('0.0.0.0/8', 'reserved'),
  range('169.254.0.0/16', 'reserved'), // also the metadata of most clouds
  range('192.0.0.0/24', 'reserved'),
  range('192.0.2.0/24', 'reserved'),
  range('192.88.99.0/24', 'reserved'),
  range('198.18.0.0/15', 'reserved'),
  range('198.51.100.0/24', 'reserved'),
  range('203.0.113.0/24', 'reserved'),
  range('224.0.0.0/4', 'reserved'),
  range('240.0.0.0/4', 'reserved'),
];

/** IPv6 beyond them is public within 2000::/3, and reserved elsewhere. */
const RANGES_6: readonly Range[] = [
  range('fd00:ec2::254/128', 'reserved'), // Amazon's metadata
  range('fd20:ce::254/128', 'reserved'), // Google's
  range('::1/128', 'private'),
  range('fc00::/7', 'private'),
  range('2001::/23', 'reserved'), // Teredo, benchmarks, ORCHID
  range('2001:db8::/32', 'reserved'),
  range('3fff::/20', 'reserved'),
];
const GLOBAL = range('2000::/3', 'public');

/** Where IPv6 carries an IPv4 address, and at which byte: such an address is as good as what it carries. */
const CARRIERS: readonly (readonly [network: Range, at: number])[] = [
  [range('::ffff:0:0/96', 'reserved'), 12], // mapped
  [range('::ffff:0:0:0/96', 'reserved'), 12], // translated (SIIT)
  [range('64:ff9b::/96', 'reserved'), 12], // NAT64
  [range('2002::/16', 'reserved'), 2], // 6to4
];
/** Translated locally, and IPv4-compatible: nothing of today uses them. */
const CLOSED_6 = [range('64:ff9b:1::/48', 'reserved')];

/** What an address is. Text that is no address is reserved. */
export function addressKind(text: string): AddressKind {
  const bytes = addressBytes(text);
  return bytes === undefined ? 'reserved' : kindOf(bytes);
}

function kindOf(bytes: Uint8Array): AddressKind {
  if (bytes.length === 4) return first(RANGES_4, bytes) ?? 'public';
  const known = first(RANGES_6, bytes) ?? first(CLOSED_6, bytes);
  if (known !== undefined) return known;
  for (const [[network, bits], at] of CARRIERS) {
    if (within(bytes, network, bits)) return kindOf(bytes.subarray(at, at + 4));
  }
  if (!within(bytes, GLOBAL[0], GLOBAL[1])) return 'reserved';
  // ISATAP (RFC 5214): …:0:5efe:a.b.c.d or …:200:5efe:a.b.c.d.
  const isatap = (bytes[8]! & 0xfd) === 0 && bytes[9] === 0 && bytes[10] === 0x5e && bytes[11] === 0xfe;
  return isatap ? kindOf(bytes.subarray(12)) : 'public';
}

function first(ranges: readonly Range[], bytes: Uint8Array): AddressKind | undefined {
  return ranges.find(([network, bits]) => within(bytes, network, bits))?.[2];
}

/** The rule of a policy: whether an address may be connected to. */
export function addressRule(policy: AddressPolicy): (address: string) => boolean {
  const open = (policy.allowedNetworks ?? []).map(parseNetwork).filter((network) => network !== undefined);
  return (address) => {
    const bytes = addressBytes(address);
    if (bytes === undefined) return false;
    if (open.some(([network, bits]) => within(bytes, network, bits))) return true;
    const kind = kindOf(bytes);
    return kind === 'public' || (kind === 'private' && policy.allowPrivateAddresses === true);
  };
}

/**
 * Whether a host's name alone says that it is this machine (RFC 6761 §6.3): such a name is not even looked up, unless
 * private addresses are open.
 */
export function isLocalName(host: string): boolean {
  const name = host.toLowerCase().replace(/\.$/, '');
  return name === 'localhost' || name.endsWith('.localhost') || name === '';
}
