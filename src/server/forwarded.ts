/**
 * Who is at the other end. Forwarded headers are believed from trusted proxies only and from nobody else: what anyone
 * may write names no address, no host and no scheme (threats row 27).
 */
import type { IncomingMessage } from 'node:http';
import { BlockList, isIP } from 'node:net';
import type { TLSSocket } from 'node:tls';

/** The other end of a request. */
export interface PeerFacts {
  /** The client's address: the socket's, or the forwarded one where the socket is a trusted proxy. */
  readonly address: string;
  /** The subject of a client certificate that was verified. */
  readonly certificateSubject?: string;
  /** The host that was asked for, validated, with its port; empty where there is none or it is malformed. */
  readonly host: string;
  readonly scheme: 'http' | 'https';
  /** Whether a trusted proxy passed the request on. */
  readonly proxied: boolean;
}

const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?$/;
const MOST_HOPS = 64;

/** Ranges as a list that can be asked. Each is an address or `address/prefix`. */
export function addressList(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    const [address = '', prefix] = range.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (prefix === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(prefix), family);
  }
  return list;
}

/** An IPv4 address that came mapped into IPv6, as IPv4; and without the zone. */
export function plainAddress(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  return mapped ?? address.split('%')[0]!;
}

/** Whether the list has the address. */
export function isListed(list: BlockList, address: string): boolean {
  const family = isIP(address);
  return family !== 0 && list.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

const loopback = addressList(['127.0.0.0/8', '::1']);

/** Whether an address is this machine's own. */
export function isLoopback(address: string): boolean {
  return isListed(loopback, plainAddress(address));
}

/** What a connection tells of its other end; the same for all its requests. */
interface SocketFacts {
  readonly address: string;
  readonly scheme: 'http' | 'https';
  readonly certificateSubject?: string;
}

/** A function that says who sent a request, believing `trusted` proxies. */
export function peers(trusted: readonly string[]): (request: IncomingMessage) => PeerFacts {
  const list = trusted.length === 0 ? undefined : addressList(trusted);
  const known = new WeakMap<object, SocketFacts>();
  return (request) => {
    const { socket } = request;
    let facts = known.get(socket);
    if (facts === undefined) {
      const { remoteAddress = '', encrypted } = socket as Partial<TLSSocket>;
      facts = {
        address: plainAddress(remoteAddress),
        scheme: encrypted === true ? 'https' : 'http',
        ...subjectOf(socket as Partial<TLSSocket>),
      };
      // A connection that is gone has no address: not to be remembered.
      if (remoteAddress !== '') known.set(socket, facts);
    }
    const own: PeerFacts = { ...facts, host: validHost(authority(request)) ?? '', proxied: false };
    return list !== undefined && isListed(list, facts.address) ? forwardedPeer(request, own, list) : own;
  };
}

/** The Host, or HTTP/2's `:authority`, from the raw list: `headers` is not built on the hot path. */
function authority(request: IncomingMessage): string | undefined {
  const { rawHeaders } = request;
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const name = rawHeaders[index]!;
    if (name === 'Host' || name === 'host' || name === ':authority' || name.toLowerCase() === 'host') {
      return rawHeaders[index + 1];
    }
  }
  return undefined;
}

/** The subject of a certificate that the server's own check accepted, as Node writes it: one attribute a line. */
function subjectOf(socket: Partial<TLSSocket>): { certificateSubject?: string } {
  if (socket.authorized !== true || socket.getPeerX509Certificate === undefined) return {};
  const subject = socket.getPeerX509Certificate()?.subject;
  return subject !== undefined && subject !== '' && subject.length <= 4_096 ? { certificateSubject: subject } : {};
}

/** What a trusted proxy says. Two headers that contradict each other name nobody: then it is the proxy itself. */
function forwardedPeer(request: IncomingMessage, own: PeerFacts, trusted: BlockList): PeerFacts {
  const standard = parseForwarded(single(request.headers.forwarded));
  const usual = single(request.headers['x-forwarded-for'])
    ?.split(',')
    .slice(-MOST_HOPS)
    .map((hop) => hopAddress(hop));
  const byStandard =
    standard === undefined
      ? undefined
      : clientOf(
          standard.map((hop) => hop.for),
          own.address,
          trusted,
        );
  const byUsual = usual === undefined ? undefined : clientOf(usual, own.address, trusted);
  const agree = byStandard === undefined || byUsual === undefined || byStandard === byUsual;
  const nearest = standard?.at(-1);
  const scheme = lastOf(single(request.headers['x-forwarded-proto'])) ?? nearest?.proto;
  const host = validHost(lastOf(single(request.headers['x-forwarded-host'])) ?? nearest?.host);
  return {
    // A certificate of the proxy's own connection is the proxy's, not the client's.
    address: (agree ? (byUsual ?? byStandard) : undefined) ?? own.address,
    host: host ?? own.host,
    scheme: scheme === 'https' || scheme === 'http' ? scheme : own.scheme,
    proxied: true,
  };
}

/** From the nearest hop outward, the first that is no trusted proxy; where the chain breaks, the last that was valid. */
function clientOf(hops: readonly (string | undefined)[], direct: string, trusted: BlockList): string {
  let client = direct;
  for (const hop of [...hops].reverse()) {
    if (hop === undefined) return client;
    client = hop;
    if (!isListed(trusted, hop)) return client;
  }
  return client;
}

/** An address with or without port, quotes and brackets; undefined for whatever else. */
function hopAddress(text: string | undefined): string | undefined {
  const bare = text?.trim().replace(/^"(.*)"$/, '$1');
  if (bare === undefined || bare.length > 64) return undefined;
  const bracketed = /^\[([^\]]+)\](?::\d{1,5})?$/.exec(bare)?.[1];
  const address = plainAddress(bracketed ?? (/^\d+\.\d+\.\d+\.\d+:\d{1,5}$/.test(bare) ? bare.split(':')[0]! : bare));
  return isIP(address) === 0 ? undefined : address;
}

interface ForwardedHop {
  readonly for: string | undefined;
  readonly proto: string | undefined;
  readonly host: string | undefined;
}

/** RFC 7239 §4: hops by commas, pairs by semicolons. No quoted value that is served here holds either. */
function parseForwarded(header: string | undefined): ForwardedHop[] | undefined {
  if (header === undefined) return undefined;
  return header
    .split(',')
    .slice(-MOST_HOPS)
    .map((hop) => {
      const pairs = new Map(
        hop.split(';').map((pair) => {
          const at = pair.indexOf('=');
          const value = pair.slice(at + 1).trim();
          return [pair.slice(0, Math.max(at, 0)).trim().toLowerCase(), value.replace(/^"(.*)"$/, '$1')] as const;
        }),
      );
      return { for: hopAddress(pairs.get('for')), proto: pairs.get('proto')?.toLowerCase(), host: pairs.get('host') };
    });
}

function single(header: string | string[] | undefined): string | undefined {
  const text = Array.isArray(header) ? header.join(',') : header;
  return text === undefined || text.length > 4_096 ? undefined : text;
}

function lastOf(list: string | undefined): string | undefined {
  return list?.split(',').at(-1)?.trim();
}

function validHost(host: string | undefined): string | undefined {
  return host !== undefined && host.length <= 260 && HOST.test(host) ? host.toLowerCase() : undefined;
}
