/**
 * From flags, environment, file and defaults (the first that says something wins, key by key) to one checked
 * configuration. The only file that reads the process's environment.
 */
import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type * as z from 'zod';
import { fromEnvironment, type SchemaNode } from './environment.ts';
import { LIMITS } from './limits.ts';
import { nearest } from './suggest.ts';

/** What a configuration is made of. */
export interface Sources {
  /** The file of `--config`; absent: LONGSHORE_CONFIG, else none. */
  readonly file?: string | undefined;
  /** What flags say, in the configuration's form. */
  readonly flags?: Readonly<Record<string, unknown>>;
  /** Absent: the process's. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
}

/** What `loadConfig` gives. */
export interface Loaded<Config> {
  readonly config: Config;
  /** Every file that was read: the configuration and the files of secrets. */
  readonly files: readonly string[];
}

/** The configuration is wrong: a line for each problem, all that were found. */
export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(`The configuration is wrong:\n${problems.map((line) => `  ${line}`).join('\n')}`);
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

/** Reads and checks. Throws ConfigError naming every problem. */
export async function loadConfig<S extends z.ZodType>(schema: S, sources: Sources = {}): Promise<Loaded<z.output<S>>> {
  const environment = sources.environment ?? process.env;
  const file = sources.file ?? environment.LONGSHORE_CONFIG;
  const files: string[] = [];
  const problems: string[] = [];
  const readSecret = (path: string): string => {
    files.push(resolve(path));
    return readText(path).replace(/\r?\n$/, '');
  };
  const { jsonSchema } = await import('./schema.ts');
  // The JSON schema costs some milliseconds: only where something has to be looked up in it.
  const shape = file !== undefined || hasSettings(environment) ? (jsonSchema(schema) as SchemaNode) : {};

  let written: Record<string, unknown> = {};
  if (file !== undefined) {
    files.push(resolve(file));
    written = await readYaml(file);
    written = withSecrets(written, shape, dirname(resolve(file)), readSecret, problems, []) as Record<string, unknown>;
  }
  const set = fromEnvironment(environment, shape, readSecret);
  problems.push(...set.problems);
  const merged = merge(merge(written, set.values), sources.flags ?? {});
  const checked = schema.safeParse(merged);
  if (!checked.success)
    problems.push(
      ...describe(checked.error.issues, shape.properties === undefined ? (jsonSchema(schema) as SchemaNode) : shape),
    );
  if (problems.length > 0 || !checked.success) throw new ConfigError(problems);
  return { config: checked.data, files };
}

/** Whether the environment sets anything: a key, or the file to read. */
export function hasSettings(environment: Readonly<Record<string, string | undefined>> = process.env): boolean {
  return Object.keys(environment).some((name) => name.startsWith('LONGSHORE_') && !name.startsWith('LONGSHORE_TEST_'));
}

/** What a test asked of this process: the failpoint at which it dies, and which time. */
export function testFailpoint(
  environment: Readonly<Record<string, string | undefined>> = process.env,
): { readonly name: string; readonly count: number } | undefined {
  const found = /^([a-z.]+):(\d{1,9})$/.exec(environment.LONGSHORE_TEST_FAILPOINT ?? '');
  return found === null ? undefined : { name: found[1]!, count: Number(found[2]) };
}

/** A copy in which every secret that is set reads `"***"`. `node`: the schema's JSON schema. */
export function masked(value: unknown, node: SchemaNode): unknown {
  if (node.secret === true) return value === undefined ? undefined : '***';
  if (Array.isArray(value)) return value.map((inner) => masked(inner, node.items ?? {}));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, masked(inner, node.properties?.[key] ?? {})]),
  );
}

async function readYaml(file: string): Promise<Record<string, unknown>> {
  const { parseDocument } = await import('yaml');
  const document = parseDocument(readText(file), { uniqueKeys: true, prettyErrors: true });
  if (document.errors.length > 0)
    throw new ConfigError(document.errors.map((error) => `${file}: ${error.message.split('\n')[0]}`));
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 }) as unknown;
  } catch (error) {
    throw new ConfigError([`${file}: ${(error as Error).message}`]);
  }
  if (value === null || value === undefined) return {};
  if (typeof value !== 'object' || Array.isArray(value)) throw new ConfigError([`${file}: must be a map of settings`]);
  return value as Record<string, unknown>;
}

function readText(path: string): string {
  try {
    if (statSync(path).size > LIMITS.configurationBytes.value) throw new Error('is larger than 1 MiB');
    return readFileSync(path, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new ConfigError([
      `${path}: ${code === 'ENOENT' ? 'there is no such file' : code === 'EACCES' ? 'may not be read' : message}`,
    ]);
  }
}

/** Replaces `{ file: path }` where a secret stands by the file's text. Paths are relative to the configuration. */
function withSecrets(
  value: unknown,
  node: SchemaNode,
  folder: string,
  readSecret: (path: string) => string,
  problems: string[],
  path: readonly string[],
): unknown {
  if (Array.isArray(value)) {
    const items = node.items ?? {};
    return value.map((one, at) => withSecrets(one, items, folder, readSecret, problems, [...path, String(at)]));
  }
  if (typeof value !== 'object' || value === null) return value;
  if (node.secret === true) {
    const { file, ...rest } = value as { file?: unknown };
    if (typeof file !== 'string' || Object.keys(rest).length > 0) return value;
    try {
      return readSecret(resolve(folder, file));
    } catch (error) {
      problems.push(
        ...(error instanceof ConfigError
          ? error.problems.map((line) => `${path.join('.')}: ${line}`)
          : [String(error)]),
      );
      return undefined;
    }
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      key,
      withSecrets(inner, node.properties?.[key] ?? {}, folder, readSecret, problems, [...path, key]),
    ]),
  );
}

/** `over` wins, key by key; lists are replaced whole. */
function merge(
  under: Readonly<Record<string, unknown>>,
  over: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const merged: Record<string, unknown> = { ...under };
  for (const [key, value] of Object.entries(over)) {
    if (value === undefined) continue;
    const below = merged[key];
    merged[key] = isMap(value) && isMap(below) ? merge(below, value) : value;
  }
  return merged;
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Problems in words: the key's path and what is expected; unknown keys with the nearest known one. */
function describe(issues: readonly z.core.$ZodIssue[], shape: SchemaNode): string[] {
  const lines: string[] = [];
  for (const issue of issues) {
    const at = issue.path.map(String);
    if (issue.code === 'unrecognized_keys') {
      let node: SchemaNode | undefined = shape;
      for (const key of at) node = node?.properties?.[key];
      const known = Object.keys(node?.properties ?? {});
      for (const key of issue.keys) {
        const near = nearest(key, known);
        const hint =
          near === undefined
            ? known.length === 0
              ? ''
              : `; known here: ${known.join(', ')}`
            : `; did you mean ${near}?`;
        lines.push(`${[...at, key].join('.')}: no such setting${hint}`);
      }
    } else if (issue.code === 'invalid_union') {
      lines.push(`${at.join('.')}: ${[...new Set(issue.errors.flat().map((one) => one.message))].join(', or ')}`);
    } else {
      lines.push(`${at.join('.') || 'configuration'}: ${issue.message}`);
    }
  }
  return lines;
}
