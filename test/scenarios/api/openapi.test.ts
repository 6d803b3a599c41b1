/** The document that a server gives is the one that is checked in, whole and sound. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT } from '../../support/server.ts';
import { open } from '../support/open.ts';
import { ask } from '../support/wire.ts';

const server = await open();
const checkedIn = JSON.parse(readFileSync(join(ROOT, 'docs/api/openapi.json'), 'utf8')) as Document;
type Operations = Record<string, Record<string, unknown>>;
interface Document {
  readonly openapi: string;
  readonly paths: Record<string, Operations>;
  readonly components: Record<string, Record<string, unknown>>;
}

test('what is served is what is checked in', async () => {
  const served = (await ask(server, 'GET', '/api/v1/openapi.json')).json() as Document;
  assert.match(served.openapi, /^3\.1\./);
  // Features that are off here are in the checked-in document only.
  for (const [path, operations] of Object.entries(served.paths))
    assert.deepEqual(checkedIn.paths[path], operations, path);
  for (const [name, schema] of Object.entries(served.components.schemas ?? {})) {
    assert.deepEqual(checkedIn.components.schemas?.[name], schema, name);
  }
});

test('every reference leads somewhere, and every operation is whole', () => {
  const references = [...JSON.stringify(checkedIn).matchAll(/"\$ref":"#\/([^"]+)"/g)].map(([, path]) => path ?? '');
  assert.ok(references.length > 50);
  for (const reference of references) {
    let node: unknown = checkedIn;
    for (const part of reference.split('/')) node = (node as Record<string, unknown> | undefined)?.[part];
    assert.notEqual(node, undefined, reference);
  }
  const ids = new Set<unknown>();
  for (const [path, operations] of Object.entries(checkedIn.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const where = `${method} ${path}`;
      assert.ok(typeof operation.operationId === 'string' && !ids.has(operation.operationId), where);
      ids.add(operation.operationId);
      assert.ok(typeof operation.summary === 'string' && operation.summary !== '', where);
      assert.ok(operation['x-longshore-right'] !== undefined, where);
      const parameters = (operation.parameters ?? []) as { name: string; in: string; schema: object }[];
      const inPath = parameters.filter((one) => one.in === 'path').map((one) => one.name);
      assert.deepEqual([...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort(), inPath.sort(), where);
      for (const parameter of parameters)
        assert.ok(Object.keys(parameter.schema).length > 0, `${where} ${parameter.name}`);
      const codes = Object.keys(operation.responses as object);
      assert.equal(codes.filter((code) => code.startsWith('2')).length, 1, where);
      for (const code of ['400', '401', '500', '503']) assert.ok(codes.includes(code), `${where} ${code}`);
    }
  }
});
