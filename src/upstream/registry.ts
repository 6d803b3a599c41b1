/** Another registry over HTTP, as the seam sees it. */
import type { RegistryLister, RegistryReader } from '../registry/registry.ts';
import { upstream } from './exchange.ts';
import { upstreamLister } from './lister.ts';
import { upstreamReader } from './reader.ts';
import type { UpstreamParts, UpstreamSettings } from './settings.ts';

/** What can be read of a registry. Every method throws RegistryError; who asks is not told to it. */
export function upstreamRegistry(settings: UpstreamSettings, parts: UpstreamParts): RegistryReader & RegistryLister {
  const to = upstream(settings, parts);
  return { ...upstreamReader(to), ...upstreamLister(to) };
}
