/**
 * Small requests over bare sockets: wrk cannot do HEAD, and node:http's own client costs more than the servers it
 * would measure. Understands exactly what it needs: one answer at a time, with a Content-Length or without a body.
 */
import { connect, type Socket } from 'node:net';
import { ACCEPT, tagOf } from '../bytes.ts';
import { percentile } from '../stats.ts';
import type { RequestsTask, Work } from './task.ts';

const HEAD_END = Buffer.from('\r\n\r\n');

export function prepareRequests(task: RequestsTask): Work {
  const { hostname, port, host } = new URL(task.url);
  const before = `${task.method} ${task.path}`;
  const authorization = task.token === undefined ? '' : `authorization: Bearer ${task.token}\r\n`;
  const after = ` HTTP/1.1\r\nhost: ${host}\r\naccept: ${ACCEPT}\r\n${authorization}\r\n`;
  const fixed = Buffer.from(before + after);
  let seed = 1;
  const nextRequest = (): Buffer | string => {
    if (task.tags === undefined) return fixed;
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return before + tagOf(Math.floor((seed / 2 ** 32) * task.tags)) + after;
  };

  const latencies: number[] = [];
  let errors = 0;

  /** One connection: asks again and again until the time is over. */
  function oneConnection(until: number): Promise<void> {
    return new Promise((done, fail) => {
      let sentAt = 0;
      let head: Buffer | undefined;
      /** Bytes of the body that are still to come; -1: the head is not whole. */
      let missing = -1;
      let ended = false;
      const send = (): void => {
        sentAt = performance.now();
        if (sentAt >= until) {
          ended = true;
          socket.destroy();
          done();
          return;
        }
        missing = -1;
        head = undefined;
        socket.write(nextRequest());
      };
      const onData = (length: number, buffer: Buffer): boolean => {
        if (missing > 0) {
          missing -= length;
        } else {
          const received = buffer.subarray(0, length);
          head = head === undefined ? received : Buffer.concat([head, received]);
          const end = head.indexOf(HEAD_END);
          if (end < 0) {
            head = Buffer.from(head);
            return true;
          }
          if (head.toString('latin1', 9, 12) !== '200') errors++;
          if (task.method === 'HEAD') missing = 0;
          else {
            const length = /\r\ncontent-length: *(\d+)/i.exec(head.toString('latin1', 0, end + 2))?.[1];
            if (length === undefined) {
              ended = true;
              socket.destroy();
              fail(new Error('an answer without Content-Length'));
              return false;
            }
            missing = Number(length) - (head.length - end - 4);
          }
        }
        if (missing === 0) {
          latencies.push(performance.now() - sentAt);
          send();
        }
        return true;
      };
      const socket: Socket = connect({
        host: hostname,
        port: Number(port),
        noDelay: true,
        onread: { buffer: Buffer.allocUnsafeSlow(64 * 1024), callback: onData as never },
      });
      socket.setTimeout(30_000, () => socket.destroy(new Error('no answer for 30 s')));
      socket.on('connect', send);
      socket.on('error', fail);
      socket.on('close', () => {
        if (!ended) fail(new Error('the server closed a connection'));
      });
    });
  }

  return {
    async run() {
      const started = performance.now();
      const until = started + task.seconds * 1000;
      await Promise.all(Array.from({ length: task.connections }, () => oneConnection(until)));
      return {
        seconds: (performance.now() - started) / 1000,
        count: latencies.length,
        bytes: 0,
        p50: percentile(latencies, 0.5),
        p99: percentile(latencies, 0.99),
        worst: percentile(latencies, 1),
        errors,
      };
    },
  };
}
