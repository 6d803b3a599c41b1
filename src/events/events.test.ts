import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FaultError } from '../oci/error.ts';
import { blob, descriptor, repo, tag } from '../registry/samples.testing.ts';
import { emit } from './emit.ts';
import type { NewEvent } from './event.ts';
import { EVENT_TYPES, eventOf, type OutboxRow } from './read.ts';

const sample = descriptor(blob('x'));
const { digest } = sample;
const facts = {
  actor: 'user:ann',
  request: { id: 'r-1', address: '127.0.0.1', host: 'h', method: 'PUT', userAgent: 'curl' },
};
const head = { ...facts, repository: repo('team/app') };
const events: readonly NewEvent[] = [
  { ...head, type: 'manifest.pushed', manifest: sample, tags: [tag('v1'), tag('v2')], subject: digest },
  { ...head, type: 'manifest.pushed', manifest: { ...sample, artifactType: 't', annotations: { a: 'b' } }, tags: [] },
  { ...head, type: 'manifest.pulled', manifest: sample, tag: tag('v1') },
  { ...head, type: 'manifest.deleted', manifest: sample },
  { ...head, type: 'manifest.restored', manifest: sample },
  { ...head, type: 'tag.moved', tag: tag('v1'), from: digest, to: digest },
  { ...head, type: 'tag.moved', tag: tag('v1'), to: digest },
  { ...head, type: 'tag.deleted', tag: tag('v1'), from: digest },
  { ...head, type: 'tag.restored', tag: tag('v1'), to: digest },
  { ...head, type: 'blob.pushed', blob: sample },
  { ...head, type: 'blob.mounted', blob: sample, source: repo('other/app') },
  { ...head, type: 'blob.deleted', blob: sample },
  { ...head, request: { id: 'scrub' }, type: 'blob.damaged', blob: sample, reason: 'its bytes have another digest' },
  { ...head, request: { id: 'heal' }, type: 'blob.healed', blob: sample, healedFrom: 'storage fs' },
  { ...head, request: { id: 'job-1' }, type: 'repository.deleted' },
];

async function rowOf(event: NewEvent, id = 7): Promise<OutboxRow> {
  let row: OutboxRow | undefined;
  await emit(
    {
      outbox: async (type, repositoryId, payload) => {
        assert.equal(repositoryId, 3);
        row = { id, uid: `uid-${id}`, type, payload: JSON.stringify(payload), at: 1_000 };
      },
    },
    3,
    event,
  );
  assert.ok(row !== undefined);
  return row;
}

test('every type comes back as it was emitted, with id, sequence and time', async () => {
  for (const event of events) {
    assert.deepEqual(eventOf(await rowOf(event)), { ...event, id: 'uid-7', sequence: 7, at: 1_000 });
  }
  assert.deepEqual([...new Set(events.map((event) => event.type))].sort(), [...EVENT_TYPES].sort());
});

test('what is missing or wrong in a row is corrupt', async () => {
  const refused = (row: OutboxRow) =>
    assert.throws(
      () => eventOf(row),
      (error) => error instanceof FaultError && error.code === 'corrupt',
    );
  for (const event of events) {
    const row = await rowOf(event);
    refused({ ...row, type: 'no.such' });
    refused({ ...row, type: 'toString' });
    for (const payload of ['', '{', 'null', '[]', '1', '{}']) refused({ ...row, payload });
    const whole = JSON.parse(row.payload) as Record<string, unknown>;
    for (const name of [
      'repository',
      'actor',
      'request',
      'manifest',
      'tags',
      'to',
      'blob',
      'source',
      'from',
      'tag',
      'subject',
    ]) {
      if (!(name in whole)) continue;
      const { [name]: _, ...rest } = whole;
      const mayLack =
        name === 'subject' ||
        (name === 'from' && event.type === 'tag.moved') ||
        (name === 'tag' && event.type === 'manifest.pulled');
      if (!mayLack) refused({ ...row, payload: JSON.stringify(rest) });
      for (const bad of [7, 'UPPER:case', { digest: 'sha256:x' }, [1]]) {
        if (name === 'actor' && typeof bad === 'string') continue;
        refused({ ...row, payload: JSON.stringify({ ...whole, [name]: bad }) });
      }
    }
  }
});
