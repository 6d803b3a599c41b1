/** Transfers that their client cuts off: downloads after some bytes, uploads (PATCH and PUT in turn) amid their body. */
import { connect, type Socket } from 'node:net';
import { blobOf } from '../bytes.ts';
import { each, openClient } from '../client.ts';
import type { AbortsTask, Work } from './task.ts';

/** Nothing is waited for longer than this, milliseconds. */
const PATIENCE = 20_000;

export function prepareAborts(task: AbortsTask): Work {
  const { hostname, port, host } = new URL(task.url);
  const [body] = blobOf(task.size, 'abort').parts;
  let seed = 7;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };

  /** Writes, and cuts off: `sent` bytes of a body after they left, or a download after `taken` bytes came. */
  function cut(head: string, sent: number, taken: number): Promise<void> {
    return new Promise((done, fail) => {
      let received = 0;
      const socket: Socket = connect({ host: hostname, port: Number(port) });
      socket.setTimeout(PATIENCE, () => socket.destroy(new Error('an aborted transfer stood still')));
      socket.on('connect', () => {
        socket.write(head);
        if (sent > 0) socket.write(body.subarray(0, sent), () => socket.resetAndDestroy());
      });
      socket.on('data', (chunk: Buffer) => {
        received += chunk.length;
        if (taken > 0 && received >= taken) socket.resetAndDestroy();
      });
      socket.on('close', () => done());
      socket.on('error', (error: NodeJS.ErrnoException) => {
        // Cut off by the other side first: that is an end too.
        if (error.code === 'ECONNRESET' || error.code === 'EPIPE') done();
        else fail(error);
      });
    });
  }

  return {
    async run() {
      const client = openClient(task.url, { connections: task.connections });
      const started = performance.now();
      let errors = 0;
      try {
        await each(task.count, task.connections, async (index) => {
          if (index % 2 === 0) {
            const taken = 1 + random(task.size - 1);
            await cut(`GET ${task.path} HTTP/1.1\r\nhost: ${host}\r\n\r\n`, 0, taken);
            return;
          }
          const opened = await client.ask('POST', `/v2/${task.repository}/blobs/uploads/`, { expect: [202] });
          const { pathname, search } = new URL(opened.headers.location ?? '', task.url);
          const [method, query] =
            index % 4 === 1
              ? ['PATCH', search]
              : ['PUT', `${search === '' ? '?' : `${search}&`}digest=${blobOf(task.size, `${index}`).digest}`];
          const sent = 1 + random(body.length - 1);
          const head = `${method} ${pathname}${query} HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/octet-stream\r\ncontent-length: ${task.size}\r\n\r\n`;
          await cut(head, sent, 0);
          // Gone (404) is as good as cancelled (204). The server may still be busy with the end of the one before.
          for (let attempt = 0; ; attempt++) {
            const answer = await client.ask('DELETE', pathname + search, {
              expect: [204, 404, 409, 416, 423, 429, 503],
            });
            if (answer.status === 204 || answer.status === 404) break;
            if (attempt === 20) {
              errors++;
              break;
            }
            await new Promise((go) => setTimeout(go, 50));
          }
        });
      } finally {
        client.close();
      }
      const seconds = (performance.now() - started) / 1000;
      return { seconds, count: task.count, bytes: 0, p50: Number.NaN, p99: Number.NaN, worst: Number.NaN, errors };
    },
  };
}
