/**
 * Connects, and only to an address that was judged: a name's addresses are looked up here, judged here, and handed to
 * the socket, so that no second look-up can give another one. A literal address is not looked up at all, so it is
 * judged before.
 */
import { lookup as systemLookup } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import { buildConnector } from 'undici';
import { type AddressPolicy, addressRule, isLocalName } from './address-rules.ts';

/** The addresses of a name. Tests give their own. */
export type Resolve = (host: string) => Promise<readonly { readonly address: string; readonly family: number }[]>;

/** What the connector is made of. */
export interface ConnectorOptions {
  readonly policy: AddressPolicy;
  readonly resolve?: Resolve;
  /** Milliseconds to connect and shake hands in. */
  readonly connectMilliseconds: number;
  /** PEM of the authorities that are trusted. Absent: the usual ones. */
  readonly ca?: string;
}

/** The address may not be connected to. `host` is the name that led to it. */
export class AddressRefused extends Error {
  readonly code = 'ADDRESS_REFUSED';
  readonly host: string;

  constructor(host: string) {
    super(`the address of ${host} is not a public one, and the configuration does not open it`);
    this.name = 'AddressRefused';
    this.host = host;
  }
}

const fromSystem: Resolve = (host) =>
  new Promise((resolve, reject) => {
    systemLookup(host, { all: true }, (error, found) => (error === null ? resolve(found) : reject(error)));
  });

/** A connector for undici's dispatchers. */
export function guardedConnector(options: ConnectorOptions): buildConnector.connector {
  const { policy, resolve = fromSystem } = options;
  const allowed = addressRule(policy);
  // With networks opened one by one a name of this machine is judged by what it resolves to.
  const namesOpen = policy.allowPrivateAddresses === true || (policy.allowedNetworks ?? []).length > 0;

  const lookup: LookupFunction = (host, { all, family }, done) => {
    resolve(host).then(
      (found) => {
        const wanted = family === 4 || family === 6 ? found.filter((one) => one.family === family) : found;
        const open = wanted
          .filter(({ address }) => allowed(address))
          .map(({ address, family }) => ({ address, family }));
        const one = open[0];
        if (one === undefined) {
          const error =
            wanted.length > 0
              ? new AddressRefused(host)
              : Object.assign(new Error(`${host} has no address`), { code: 'ENOTFOUND' });
          done(error, all === true ? [] : '', 0);
        } else if (all === true) done(null, open);
        else done(null, one.address, one.family);
      },
      (error: NodeJS.ErrnoException) => done(error, all === true ? [] : '', 0),
    );
  };
  const connect = buildConnector({
    lookup,
    timeout: options.connectMilliseconds,
    allowH2: false,
    rejectUnauthorized: true, // whatever the environment says
    ...(options.ca === undefined ? {} : { ca: options.ca }),
  });
  return (target, done) => {
    const host = target.hostname.replace(/^\[(.*)\]$/, '$1');
    if (isIP(host) !== 0 ? !allowed(host) : isLocalName(host) && !namesOpen) {
      queueMicrotask(() => done(new AddressRefused(host), null));
      return;
    }
    connect(target, (...result) => {
      const [error, socket] = result;
      if (error === null && !allowed(socket.remoteAddress ?? '')) {
        socket.destroy();
        done(new AddressRefused(host), null);
      } else done(...result);
    });
  };
}
