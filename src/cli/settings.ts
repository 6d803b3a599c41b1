/** The flags that every command on a configuration has, and the configuration they lead to. */
import { LISTEN_FORM, parseListen } from '../config/listen.ts';
import { ConfigError, hasSettings, type Loaded } from '../config/load.ts';
import type { Configuration } from '../configuration.ts';
import type { Flag, Given } from './command-line.ts';

/** The configuration that no file and no environment changes, put here by the build; absent where the source runs. */
declare const LONGSHORE_DEFAULTS: Configuration;

/** `--config` and `--data`. */
export const CONFIG_FLAGS: Readonly<Record<string, Flag>> = {
  config: { value: 'FILE', help: 'The configuration, YAML. Absent: LONGSHORE_CONFIG, else none.' },
  data: { value: 'DIR', help: 'The data folder. Absent: as configured, else ./data.' },
};

/** Loads the configuration as the flags say. Throws ConfigError. */
export async function configurationOf({ flags }: Given): Promise<Loaded<Configuration>> {
  const { config: file, data, listen } = flags;
  if (file === undefined && typeof LONGSHORE_DEFAULTS !== 'undefined' && !hasSettings()) {
    return { config: withFlags(LONGSHORE_DEFAULTS, data, listen), files: [] };
  }
  const { loadConfiguration } = await import('../configuration.ts');
  return loadConfiguration({
    file: typeof file === 'string' ? file : undefined,
    flags: { ...(data === undefined ? {} : { data }), ...(listen === undefined ? {} : { server: { listen } }) },
  });
}

/** The same that the schema would make of these two flags, without loading it: 8 MiB and 15 ms of every start. */
function withFlags(
  defaults: Configuration,
  data: string | true | undefined,
  listen: string | true | undefined,
): Configuration {
  const address = typeof listen === 'string' ? parseListen(listen) : defaults.server.listen;
  const problems = [
    ...(address === undefined ? [`server.listen: ${LISTEN_FORM}`] : []),
    ...(data === '' ? ['data: must not be empty'] : []),
  ];
  if (address === undefined || problems.length > 0) throw new ConfigError(problems);
  return {
    ...defaults,
    ...(typeof data === 'string' ? { data } : {}),
    server: { ...defaults.server, listen: address },
  };
}
