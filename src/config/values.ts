/** The kinds of values that configuration sections of all rooms share: durations, sizes, addresses, secrets. */
import { isIP } from 'node:net';
import * as z from 'zod';
import { LISTEN_FORM, type ListenAddress, parseListen } from './listen.ts';

const DURATION_UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

const SIZE_UNITS: Readonly<Record<string, number>> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };

/** `10m`, `36h`, `7d`, `500ms` → milliseconds. Bounds are milliseconds. */
export function duration(bounds: { least: number; most: number }) {
  return z
    .string()
    .regex(/^\d{1,9}(ms|s|m|h|d)$/, 'must be a whole number and a unit: ms, s, m, h or d, as in "10m"')
    .transform((text, context) => {
      const [, count = '0', unit = 'ms'] = /^(\d+)(\D+)$/.exec(text) ?? [];
      const milliseconds = Number(count) * (DURATION_UNITS[unit] ?? 1);
      if (milliseconds < bounds.least || milliseconds > bounds.most) {
        context.addIssue({ code: 'custom', message: `must be between ${span(bounds.least)} and ${span(bounds.most)}` });
      }
      return milliseconds;
    });
}

/** A number of bytes, or `4 MiB`. Bounds are bytes. */
export function bytes(bounds: { least: number; most: number }) {
  return z
    .union([
      z.int().nonnegative(),
      z.string().regex(/^\d{1,15} ?(B|KiB|MiB|GiB|TiB)$/, 'must be bytes, or a number with B, KiB, MiB, GiB or TiB'),
    ])
    .transform((given, context) => {
      const [, count = '0', unit = 'B'] = typeof given === 'number' ? [] : (/^(\d+) ?(\D+)$/.exec(given) ?? []);
      const size = typeof given === 'number' ? given : Number(count) * (SIZE_UNITS[unit] ?? 1);
      if (size < bounds.least || size > bounds.most) {
        context.addIssue({ code: 'custom', message: `must be between ${bounds.least} and ${bounds.most} bytes` });
      }
      return size;
    });
}

/** `host:port`, `[::1]:port`, or `:port` for every address. */
export const listenAddress = z.string().transform((text, context): ListenAddress => {
  const address = parseListen(text);
  if (address === undefined) context.addIssue({ code: 'custom', message: LISTEN_FORM });
  return address ?? { host: '', port: 0 };
});

/** `10.0.0.0/8`, or a single address. */
export const addressRange = z.string().refine(
  (text) => {
    const [address = '', prefix, ...rest] = text.split('/');
    const kind = isIP(address);
    if (kind === 0 || rest.length > 0) return false;
    return prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= (kind === 4 ? 32 : 128));
  },
  { message: 'must be an address or a range, as in "10.0.0.0/8"' },
);

/** An http or https address. Addresses are shown and logged: what would be secret in one has a key of its own. */
export function webAddress() {
  return z
    .url({ protocol: /^https?$/ })
    .refine((text) => !/^[^:]*:\/\/[^/?#\\]*@/.test(text), { message: 'must hold no name and password' })
    .refine((text) => !/[?#]/.test(text), { message: 'must hold no query' });
}

/** A string that must not be shown: masked by `config show`, and it may come from a file (`{ file: … }`, `…_FILE`). */
export function secret(schema: z.ZodString = z.string().min(1)) {
  return schema.meta({ secret: true });
}

function span(milliseconds: number): string {
  for (const [unit, size] of Object.entries(DURATION_UNITS).reverse()) {
    if (milliseconds >= size && milliseconds % size === 0) return `${milliseconds / size}${unit}`;
  }
  return `${milliseconds}ms`;
}
