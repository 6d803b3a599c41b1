/**
 * Whom the command line is when it speaks to a server: LONGSHORE_USERNAME with LONGSHORE_PASSWORD (or the file that
 * LONGSHORE_PASSWORD_FILE names), else what `docker login` left in Docker's configuration.
 */
import { readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { LIMITS } from './limits.ts';
import { ConfigError } from './load.ts';

/** A name and a secret for HTTP Basic. Never printed. */
export interface ClientCredentials {
  readonly username: string;
  readonly password: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The credentials for the server at `host` (as in `registry.example.org:5000`); undefined: nobody. ConfigError. */
export function clientCredentials(host: string, environment: Environment = process.env): ClientCredentials | undefined {
  const { LONGSHORE_USERNAME: username, LONGSHORE_PASSWORD: password, LONGSHORE_PASSWORD_FILE: file } = environment;
  if (username !== undefined && username !== '') {
    const secret = password ?? (file === undefined ? undefined : read(file)?.replace(/\r?\n$/, ''));
    if (secret === undefined) {
      throw new ConfigError(['LONGSHORE_USERNAME is set, but neither LONGSHORE_PASSWORD nor a file that is there']);
    }
    return { username, password: secret };
  }
  return dockerCredentials(host, environment);
}

interface DockerAuth {
  readonly auth?: unknown;
  readonly identitytoken?: unknown;
}

/** What `docker login` wrote down itself. Credential helpers are not asked. */
function dockerCredentials(host: string, environment: Environment): ClientCredentials | undefined {
  const file = join(environment.DOCKER_CONFIG ?? join(homedir(), '.docker'), 'config.json');
  const text = read(file);
  if (text === undefined) return undefined;
  let auths: unknown;
  try {
    auths = (JSON.parse(text) as { auths?: unknown } | null)?.auths;
  } catch {
    throw new ConfigError([`${file}: is not JSON`]);
  }
  if (typeof auths !== 'object' || auths === null) return undefined;
  for (const name of [host, `http://${host}`, `https://${host}`]) {
    if (!Object.hasOwn(auths, name)) continue;
    const { auth, identitytoken } = ((auths as Record<string, unknown>)[name] ?? {}) as DockerAuth;
    if (typeof identitytoken === 'string' && identitytoken !== '')
      return { username: '<token>', password: identitytoken };
    if (typeof auth !== 'string' || auth === '') continue;
    const pair = Buffer.from(auth, 'base64').toString('utf8');
    const colon = pair.indexOf(':');
    if (colon > 0) return { username: pair.slice(0, colon), password: pair.slice(colon + 1) };
  }
  return undefined;
}

/** The file's text, undefined where there is none. */
function read(file: string): string | undefined {
  try {
    if (statSync(file).size > LIMITS.configurationBytes.value) throw new ConfigError([`${file}: is larger than 1 MiB`]);
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new ConfigError([`${file}: ${code === 'EACCES' ? 'may not be read' : 'cannot be read'}`]);
  }
}
