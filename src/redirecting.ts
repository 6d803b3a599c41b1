/** Who is sent to the object store for blobs, by the configuration. */
import type { Configuration } from './configuration.ts';
import type { Redirect } from './local/parts.ts';
import { addressList, isListed } from './server/forwarded.ts';

/** The rule of `storage.redirect`; undefined where nobody is sent away. */
export function redirectFrom({ storage }: Configuration): Redirect | undefined {
  const { enabled, lifetime, exceptNetworks, exceptUserAgents } = storage.redirect;
  if (!enabled) return undefined;
  const networks = exceptNetworks.length === 0 ? undefined : addressList(exceptNetworks);
  return {
    seconds: Math.floor(lifetime / 1000),
    allowed: ({ address, userAgent = '' }) =>
      !(networks !== undefined && isListed(networks, address)) &&
      !exceptUserAgents.some((beginning) => userAgent.startsWith(beginning)),
  };
}
