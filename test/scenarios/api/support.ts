/** A server with people of every kind, and ways to ask its REST API. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hashSync } from 'bcryptjs';
import type { Longshore } from '../../support/server.ts';
import { temporaryFolder } from '../../support/temp.ts';
import { basic } from '../support/oci.ts';
import { open } from '../support/open.ts';
import { type Answer, type AskOptions, ask, type Place } from '../support/wire.ts';

/** Who asks. `reader` pulls from `team/`, `writer` pushes and deletes there too, `other` only knows `other/`. */
export type Persona = 'anonymous' | 'reader' | 'writer' | 'other' | 'admin';

/** All of them. */
export const PERSONAS: readonly Persona[] = ['anonymous', 'reader', 'writer', 'other', 'admin'];

/** The actions that each may do, by the first part of a repository's name. */
export const RIGHTS: Readonly<Record<Persona, Readonly<Record<string, readonly string[]>>>> = {
  anonymous: {},
  reader: { team: ['repository.pull'] },
  writer: { team: ['repository.pull', 'repository.push', 'repository.delete'] },
  other: {
    other: ['repository.pull', 'repository.push', 'repository.delete', 'repository.purge', 'repository.hold'],
  },
  admin: Object.fromEntries(
    ['team', 'secret', 'other', 'fixed'].map((first) => [
      first,
      ['repository.pull', 'repository.push', 'repository.delete', 'repository.purge', 'repository.hold'],
    ]),
  ),
};

/** The password of a persona. */
export const passwordOf = (persona: Persona): string => `${persona} has a long password`;

/** The headers by which a persona is known. */
export function as(persona: Persona): Record<string, string> {
  return persona === 'anonymous' ? {} : (basic(persona, passwordOf(persona)) as Record<string, string>);
}

/** The server. Tags of repositories below `fixed/` are immutable. */
export async function openApi(): Promise<Longshore> {
  const htpasswd = join(temporaryFolder('htpasswd'), 'htpasswd');
  const people = PERSONAS.filter((persona) => persona !== 'anonymous');
  writeFileSync(htpasswd, people.map((name) => `${name}:${hashSync(passwordOf(name), 5)}\n`).join(''));
  return open({
    config: {
      access: {
        anonymous: 'none',
        htpasswd,
        rules: [
          { users: ['reader'], repositories: ['team/**'], actions: ['pull'] },
          { users: ['writer'], repositories: ['team/**'], actions: ['pull', 'push', 'delete'] },
          { users: ['other'], repositories: ['other/**'], actions: ['pull', 'push', 'delete', 'purge', 'hold'] },
          { users: ['admin'], repositories: ['**'], actions: ['admin'] },
        ],
      },
      immutability: { rules: [{ name: 'fixed', repositories: ['fixed/**'] }] },
    },
  });
}

/** One request below `/api/v1`. An object as body goes out as JSON. */
export function api(
  place: Place,
  persona: Persona,
  method: string,
  path: string,
  options: { readonly body?: unknown; readonly headers?: Readonly<Record<string, string>> } = {},
): Promise<Answer> {
  const { body } = options;
  const headers = { ...as(persona), ...options.headers };
  const bytes =
    body === undefined
      ? undefined
      : Buffer.from(body instanceof Uint8Array || typeof body === 'string' ? body : JSON.stringify(body));
  const sent: AskOptions =
    bytes === undefined
      ? { headers }
      : // A length in any case: without, a DELETE's body would be taken for another request.
        {
          headers: { 'content-type': 'application/json', 'content-length': String(bytes.length), ...headers },
          body: bytes,
        };
  return ask(place, method, `/api/v1${path}`, sent);
}

/** Asserts a problem document (RFC 9457) of that status and code, that tells nothing of the inside. */
export function expectProblem(answer: Answer, status: number, code?: string): Record<string, unknown> {
  assert.equal(answer.status, status, `${answer.status} ${answer.text().slice(0, 400)}`);
  assert.match(answer.header('content-type'), /^application\/problem\+json/);
  assert.equal(answer.header('x-content-type-options'), 'nosniff');
  assert.equal(answer.header('cache-control'), 'no-store');
  assert.doesNotMatch(answer.text(), /\.ts:\d+|node:internal|\bat [\w.]+ \(|sqlite|SELECT|select /);
  const body = answer.json() as Record<string, unknown>;
  assert.equal(body.status, status);
  if (code !== undefined) assert.equal(body.code, code, answer.text());
  return body;
}

/** A repository's path. */
export const at = (repository: string, rest = ''): string => `/repositories/${encodeURIComponent(repository)}${rest}`;

/** An operation of the OpenAPI document. */
export interface Operation {
  readonly id: string;
  readonly method: string;
  /** As in the document, below `/api/v1`. */
  readonly path: string;
  readonly right: { readonly on: 'anyone' | 'registry' | 'repository' | 'found'; readonly action?: string };
  readonly status: number;
  readonly hasBody: boolean;
  readonly isList: boolean;
}

/** Every operation that the server says it has. */
export async function operationsOf(place: Place): Promise<Operation[]> {
  const document = (await api(place, 'anonymous', 'GET', '/openapi.json')).json() as {
    paths: Record<string, Record<string, Record<string, unknown>>>;
  };
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      id: operation.operationId as string,
      method: method.toUpperCase(),
      path: path.slice('/api/v1'.length),
      right: operation['x-longshore-right'] as Operation['right'],
      status: Number(Object.keys(operation.responses as object).find((key) => key.startsWith('2'))),
      hasBody: operation.requestBody !== undefined,
      isList: ((operation.parameters ?? []) as { name: string }[]).some((parameter) => parameter.name === 'after'),
    })),
  );
}

/** The path of an operation with its parameters filled in. */
export function filled(operation: Operation, values: Readonly<Record<string, string>>): string {
  return operation.path.replace(/\{(\w+)\}/g, (_all, name: string) => encodeURIComponent(values[name] ?? ''));
}
