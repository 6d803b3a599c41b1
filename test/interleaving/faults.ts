/**
 * Planted faults. Each breaks one thing that the design says is needed; a harness that does not catch every one of them
 * proves nothing.
 */
import type { Fault } from './model-database.ts';

/** The faults, in how many runs each must be caught, and what clients do where they would seldom meet it otherwise. */
export const FAULTS: readonly (Fault & {
  readonly within: number;
  readonly menu?: readonly string[];
  readonly size?: 'small' | 'large';
})[] = [
  {
    name: 'a queue entry that is there is not moved to the later tick',
    within: 400,
    rewrite: [
      [
        'on conflict (repository_id, digest) do update set due_tick = excluded.due_tick where gc_queue.due_tick < excluded.due_tick',
        'on conflict (repository_id, digest) do nothing',
      ],
    ],
  },
  {
    name: 'bytes always go to the plain key',
    within: 400,
    rewrite: [['select max(n) as n from dead_key where digest = ?', 'select null as n from (select ?)']],
  },
  {
    name: 'HEAD does not push the review away',
    within: 400,
    rewrite: [
      [
        'update gc_queue set due_tick = ? where repository_id = ? and digest = ? and due_tick <= ?',
        'update gc_queue set due_tick = ? where repository_id = ? and digest = ? and due_tick <= ? and 1 = 0',
      ],
    ],
  },
  {
    name: 'HEAD pushes the review away with < for <=',
    within: 1_000,
    menu: ['blob', 'head'],
    size: 'small',
    rewrite: [
      [
        'update gc_queue set due_tick = ? where repository_id = ? and digest = ? and due_tick <= ?',
        'update gc_queue set due_tick = ? where repository_id = ? and digest = ? and due_tick < ?',
      ],
    ],
  },
  {
    name: 'HEAD believes its touch and does not look again',
    within: 2_000,
    wrap: (command) =>
      command.name !== 'blob-touch'
        ? command
        : {
            name: command.name,
            async run(context, args) {
              const outcome = await command.run(context, args);
              return outcome.result === undefined ? { ...outcome, result: { size: 0, n: 0, stored: false } } : outcome;
            },
          },
  },
  {
    name: 'a key is reserved without a lease',
    within: 2_000,
    rewrite: [
      [
        "set state = 'incoming', size = ?, n = ?, stored = 0, lease_tick = ? where digest = ?",
        "set state = 'incoming', size = ?, n = ?, stored = 0, lease_tick = ? * 0 where digest = ?",
      ],
    ],
    wrap: (command) =>
      command.name !== 'blob-reserve'
        ? command
        : {
            name: command.name,
            async run(context, args) {
              const outcome = await command.run(context, args);
              await context.sql.run(
                'update gc_queue set due_tick = ? where repository_id = 0 and digest = ?',
                context.tick,
                args.digest,
              );
              return outcome;
            },
          },
  },
  {
    name: 'bytes go as soon as their key is dead',
    within: 1_000,
    menu: ['blob', 'unlink', 'pull', 'pull'],
    wrap: (command) =>
      command.name !== 'gc-take'
        ? command
        : { name: command.name, run: (context, args) => command.run(context, { ...args, deleteAfter: 0 }) },
  },
  {
    name: 'the review of a link does not look for references',
    within: 400,
    rewrite: [
      [
        'where r.digest = ? and r.repository_id = ? and r.is_child = 0) as named',
        'where r.digest = ? and r.repository_id = ? and r.is_child = 9) as named',
      ],
    ],
  },
  {
    name: 'a push makes the row live whatever its key',
    within: 1_000,
    menu: ['blob', 'blob', 'unlink'],
    size: 'large',
    rewrite: [
      [
        "where digest = ? and n = ? and state in ('incoming', 'live')",
        "where digest = ? and ? is not null and state in ('incoming', 'live')",
      ],
    ],
  },
  {
    name: 'a spill marks the row stored whatever its key',
    within: 1_000,
    menu: ['blob', 'blob', 'unlink'],
    size: 'small',
    rewrite: [
      [
        "where digest = ? and n = ? and state = 'live' and stored = 0",
        "where digest = ? and ? is not null and state = 'live' and stored = 0",
      ],
    ],
  },
  {
    name: 'a key is used again once its bytes are gone',
    within: 4_000,
    rewrite: [
      [
        'select max(n) as n from dead_key where digest = ?',
        'select max(n) as n from dead_key where confirmed = 0 and digest = ?',
      ],
    ],
  },
  {
    name: 'an undelete does not link again',
    within: 1_000,
    menu: ['push', 'delete', 'delete', 'restore', 'restore'],
    wrap: (command) =>
      command.name !== 'manifest-restore'
        ? command
        : {
            name: command.name,
            async run(context, args) {
              const before = await context.sql.all<{ repository_id: number; digest: Uint8Array }>('select * from link');
              const outcome = await command.run(context, args);
              for (const { repository_id, digest } of await context.sql.all<(typeof before)[number]>(
                'select * from link',
              )) {
                if (
                  before.some((one) => one.repository_id === repository_id && Buffer.compare(one.digest, digest) === 0)
                )
                  continue;
                await context.sql.run('delete from link where repository_id = ? and digest = ?', repository_id, digest);
                await context.sql.run(
                  `insert into usage_delta (repository_id, bytes, manifests)
                   select ?, -size, 0 from blob where digest = ?`,
                  repository_id,
                  digest,
                );
              }
              return outcome;
            },
          },
  },
  {
    name: 'the collector forgets what a deleted link was worth',
    within: 400,
    wrap: (command) =>
      command.name !== 'gc-review'
        ? command
        : {
            name: command.name,
            async run(context, args) {
              const last = await context.sql.get<{ id: number }>('select coalesce(max(id), 0) as id from usage_delta');
              const outcome = await command.run(context, args);
              await context.sql.run('delete from usage_delta where id > ?', last?.id ?? 0);
              return outcome;
            },
          },
  },
  {
    name: 'the collector takes keys that a backup needs',
    within: 2_000,
    wrap: (command) =>
      command.name !== 'gc-take'
        ? command
        : {
            name: command.name,
            async run(context, args) {
              await context.sql.run("update lease set kind = 'other' where kind = 'backup'");
              return command.run(context, args);
            },
          },
  },
  {
    name: 'the review of a row does not look for holds',
    within: 2_000,
    rewrite: [['from hold where digest = ? and (until_at', 'from hold where digest = ? and 1 = 0 and (until_at']],
  },
  {
    name: 'a repository is deleted without reviews of what its manifests kept',
    within: 2_000,
    menu: ['push', 'push', 'remove'],
    wrap: (command) =>
      command.name !== 'repository-delete'
        ? command
        : {
            name: command.name,
            async run(context, args) {
              const before = await context.sql.all<{ repository_id: number; digest: Uint8Array }>(
                'select repository_id, digest from gc_queue',
              );
              const outcome = await command.run(context, args);
              if (outcome.result.done) return outcome;
              for (const { repository_id, digest } of await context.sql.all<(typeof before)[number]>(
                'select repository_id, digest from gc_queue',
              )) {
                const was = before.some(
                  (one) => one.repository_id === repository_id && Buffer.compare(one.digest, digest) === 0,
                );
                if (!was)
                  await context.sql.run(
                    'delete from gc_queue where repository_id = ? and digest = ?',
                    repository_id,
                    digest,
                  );
              }
              return outcome;
            },
          },
  },
];
