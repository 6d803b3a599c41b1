/**
 * The configuration's environment: each key of the schema has a name (`gc.graceTicks` ↔ LONGSHORE_GC_GRACE_TICKS).
 * Lists and objects without fixed keys are JSON; a secret may come from the file that NAME_FILE names. A name that
 * nothing answers to is an error with a suggestion.
 */
import { nearest } from './suggest.ts';

/** A part of a JSON schema, as far as it is looked at. */
export interface SchemaNode {
  readonly type?: string | readonly string[];
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly anyOf?: readonly SchemaNode[];
  /** Of the entries of a list. */
  readonly items?: SchemaNode;
  readonly secret?: boolean;
  readonly description?: string;
}

/** A key that can be set. */
export interface Leaf {
  readonly path: readonly string[];
  readonly node: SchemaNode;
}

const PREFIX = 'LONGSHORE_';
/** Names that are not keys: the file's path, and whom the command line is when it speaks to a server. */
const RESERVED = new Set(['LONGSHORE_CONFIG', 'LONGSHORE_USERNAME', 'LONGSHORE_PASSWORD', 'LONGSHORE_PASSWORD_FILE']);
const isTest = (name: string): boolean => name.startsWith('LONGSHORE_TEST_');

/** `gc.graceTicks` → LONGSHORE_GC_GRACE_TICKS. */
export function variableName(path: readonly string[]): string {
  return PREFIX + path.map((key) => key.replace(/([a-z0-9])([A-Z])/g, '$1_$2').toUpperCase()).join('_');
}

/** Every key of the schema, sections before what is in them. */
export function leaves(node: SchemaNode, path: readonly string[] = []): Leaf[] {
  const found: Leaf[] = [];
  for (const [key, child] of Object.entries(node.properties ?? {})) {
    const at = [...path, key];
    found.push({ path: at, node: child }, ...leaves(child, at));
  }
  return found;
}

/** What the environment sets, as an object of the configuration's form, and what is wrong with it. */
export function fromEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
  schema: SchemaNode,
  readSecret: (path: string) => string,
): { values: Record<string, unknown>; problems: string[] } {
  const values: Record<string, unknown> = {};
  const problems: string[] = [];
  const set = Object.entries(environment).filter(
    (entry): entry is [string, string] =>
      entry[0].startsWith(PREFIX) && entry[1] !== undefined && !RESERVED.has(entry[0]) && !isTest(entry[0]),
  );
  if (set.length === 0) return { values, problems };
  const known = new Map(leaves(schema).map((leaf) => [variableName(leaf.path), leaf]));
  // Sections first, so that a key of its own wins over the section's JSON.
  set.sort(([a], [b]) => (known.get(a)?.path.length ?? 0) - (known.get(b)?.path.length ?? 0));
  for (const [name, text] of set) {
    const leaf = known.get(name);
    const ofFile = name.endsWith('_FILE') ? known.get(name.slice(0, -5)) : undefined;
    try {
      if (leaf !== undefined) put(values, leaf.path, parseValue(text, leaf.node));
      else if (ofFile?.node.secret === true) put(values, ofFile.path, readSecret(text));
      else {
        const near = nearest(name, [...known.keys()]);
        problems.push(`${name}: no such setting${near === undefined ? '' : `; did you mean ${near}?`}`);
      }
    } catch (error) {
      const { problems: several } = error as { problems?: readonly string[] };
      problems.push(`${name}: ${several?.join('; ') ?? (error as Error).message}`);
    }
  }
  return { values, problems };
}

/** A variable's text as the value that its key takes. What does not fit is left as text, for the schema to refuse. */
function parseValue(text: string, node: SchemaNode): unknown {
  const types = typesOf(node);
  if (types.has('object') || types.has('array')) {
    try {
      return JSON.parse(text) as unknown;
    } catch {
      throw new Error('must be JSON');
    }
  }
  if (types.has('boolean') && (text === 'true' || text === 'false')) return text === 'true';
  if ((types.has('integer') || types.has('number')) && /^-?\d+(\.\d+)?$/.test(text)) return Number(text);
  return text;
}

function typesOf(node: SchemaNode): Set<string> {
  const own = node.type === undefined ? [] : typeof node.type === 'string' ? [node.type] : node.type;
  return new Set([...own, ...(node.anyOf ?? []).flatMap((one) => [...typesOf(one)])]);
}

function put(values: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let at = values;
  for (const key of path.slice(0, -1)) {
    const next = at[key];
    if (typeof next === 'object' && next !== null && !Array.isArray(next)) at = next as Record<string, unknown>;
    else at = at[key] = {} as Record<string, unknown>;
  }
  at[path.at(-1)!] = value;
}
