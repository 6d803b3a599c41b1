/** Addresses to listen on, as text. */
import { isIP } from 'node:net';

/** Where to listen. */
export interface ListenAddress {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

/** What such a text must be. */
export const LISTEN_FORM = 'must be an address and a port, as in "127.0.0.1:5000" or "[::]:5000"';

/** `host:port`, `[::1]:port`, or `:port` for every address; undefined for whatever else. */
export function parseListen(text: string): ListenAddress | undefined {
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(found?.[3]);
  const six = found?.[1];
  if (found === null || port > 65_535 || (six !== undefined && isIP(six) !== 6)) return undefined;
  return { host: six ?? (found[2] === '' || found[2] === undefined ? '::' : found[2]), port };
}
