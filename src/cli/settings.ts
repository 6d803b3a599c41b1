/** The flags that every command on a configuration has, and the configuration they lead to. */
import type { Loaded } from '../config/load.ts';
import type { Configuration } from '../configuration.ts';
import type { Flag, Given } from './command-line.ts';

/** `--config` and `--data`. */
export const CONFIG_FLAGS: Readonly<Record<string, Flag>> = {
  config: { value: 'FILE', help: 'The configuration, YAML. Absent: LONGSHORE_CONFIG, else none.' },
  data: { value: 'DIR', help: 'The data folder. Absent: as configured, else ./data.' },
};

/** Loads the configuration as the flags say. Throws ConfigError. */
export async function configurationOf({ flags }: Given): Promise<Loaded<Configuration>> {
  const { loadConfiguration } = await import('../configuration.ts');
  const { config, data, listen } = flags;
  return loadConfiguration({
    file: typeof config === 'string' ? config : undefined,
    flags: { ...(data === undefined ? {} : { data }), ...(listen === undefined ? {} : { server: { listen } }) },
  });
}
