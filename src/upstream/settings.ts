/** What is known of a registry that is asked over HTTP. */

import type { Clock } from '../kit/clock.ts';
import type { OutboundClient } from '../outbound/client.ts';

/** A user and password for exactly this registry, or a token of its token service as the password. */
export interface UpstreamCredentials {
  readonly username: string;
  readonly password: string;
}

/** Where a registry is. */
export interface UpstreamSettings {
  /** `https://registry.example.org`, or with a path that stands before `/v2/`. http where the configuration says so. */
  readonly url: string;
  /** Sent to this origin and to its token service, and nowhere else. Absent: nobody. */
  readonly credentials?: UpstreamCredentials;
  /**
   * Hosts (`auth.example.org`, `auth.example.org:5001`) of token services that may be given the credentials besides
   * the registry's own. Docker Hub's is known.
   */
  readonly realmHosts?: readonly string[];
}

/** What it is asked with. */
export interface UpstreamParts {
  /** By the policy of this registry; whoever made it closes it. */
  readonly client: OutboundClient;
  readonly clock: Clock;
}

/** Token services that are not on the registry's own host, as their owners run them. */
const KNOWN_REALMS: ReadonlyMap<string, readonly string[]> = new Map([
  ['registry-1.docker.io', ['auth.docker.io']],
  ['index.docker.io', ['auth.docker.io']],
]);

/** Hosts whose token services may be given the credentials: the registry's own first. */
export function realmHostsOf(url: URL, settings: UpstreamSettings): ReadonlySet<string> {
  return new Set([url.host, ...(KNOWN_REALMS.get(url.host) ?? []), ...(settings.realmHosts ?? [])]);
}
