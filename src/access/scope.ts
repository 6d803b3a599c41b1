/** The scope grammar of Docker's token protocol: `type[(class)]:name:action,action`, split at the first and last colon. */
import { RegistryError } from '../oci/error.ts';

/** Most scopes in a request, and bytes in one of them. */
export const MAX_SCOPES = 100;
export const MAX_SCOPE_BYTES = 1024;

/** What a client asks for, and in a token's `access` claim what it got. */
export interface Scope {
  readonly type: string;
  readonly name: string;
  readonly actions: readonly string[];
}

const TYPE = /^([a-z0-9]{1,32})(?:\([a-z0-9]{1,32}\))?$/;

/** One scope; undefined where the text is none. The class is deprecated and left out. */
export function parseScope(text: string): Scope | undefined {
  const first = text.indexOf(':');
  const last = text.lastIndexOf(':');
  if (first === -1 || first === last) return undefined;
  const type = TYPE.exec(text.slice(0, first))?.[1];
  const name = text.slice(first + 1, last);
  const colon = name.indexOf(':');
  if (type === undefined || name === '' || colon !== name.lastIndexOf(':')) return undefined;
  const actions = text
    .slice(last + 1)
    .split(',')
    .filter((action) => action !== '');
  return { type, name, actions: [...new Set(actions)] };
}

/**
 * The scopes of a request: parameters may be repeated and each may hold several, separated by blanks. Texts that are
 * no scope are left out, as unknown ones are. DENIED with status 400 for too many or too long ones.
 */
export function parseScopes(parameters: readonly string[]): readonly Scope[] {
  const texts = parameters.flatMap((parameter) => parameter.split(' ')).filter((text) => text !== '');
  if (texts.length > MAX_SCOPES || texts.some((text) => Buffer.byteLength(text) > MAX_SCOPE_BYTES)) {
    throw new RegistryError(
      'DENIED',
      `At most ${MAX_SCOPES} scopes of at most ${MAX_SCOPE_BYTES} bytes can be asked for at once.`,
      { status: 400 },
    );
  }
  const scopes: Scope[] = [];
  for (const text of texts) {
    const scope = parseScope(text);
    if (scope === undefined) continue;
    const earlier = scopes.findIndex((other) => other.type === scope.type && other.name === scope.name);
    if (earlier === -1) scopes.push(scope);
    else scopes[earlier] = { ...scope, actions: [...new Set([...scopes[earlier]!.actions, ...scope.actions])] };
  }
  return scopes;
}

/** The text of a scope. */
export function formatScope(scope: Scope): string {
  return `${scope.type}:${scope.name}:${scope.actions.join(',')}`;
}
