/** Another registry over HTTP, as the seam sees it. */
import type { Registry } from '../registry/registry.ts';
import { upstream } from './exchange.ts';
import { upstreamLister } from './lister.ts';
import { upstreamReader } from './reader.ts';
import type { UpstreamParts, UpstreamSettings } from './settings.ts';
import { upstreamDeleter, upstreamWriter } from './writer.ts';

/** The registry at an address. Every method throws RegistryError; who asks is not told to it. */
export function upstreamRegistry(settings: UpstreamSettings, parts: UpstreamParts): Registry {
  const to = upstream(settings, parts);
  const reader = upstreamReader(to);
  return { ...reader, ...upstreamLister(to), ...upstreamWriter(to, reader), ...upstreamDeleter(to) };
}
