/** What runs in the password thread: answers each request in the order in which the hashes end. */
import type { MessagePort } from 'node:worker_threads';
import { hashPassword, verifyPassword } from './password-hash.ts';

/** `hash` given: verify; absent: make one. */
export interface PasswordRequest {
  readonly id: number;
  readonly password: string;
  readonly hash?: string;
}

/** `value`: whether it verified, or the new hash; absent where the work failed. Never the password. */
export interface PasswordAnswer {
  readonly id: number;
  readonly value?: boolean | string;
}

/** Answers on the port for as long as it is open. */
export function servePasswords(port: MessagePort): void {
  port.on('message', (request: PasswordRequest) => {
    const work: Promise<boolean | string> =
      request.hash === undefined ? hashPassword(request.password) : verifyPassword(request.password, request.hash);
    work.then(
      (value) => port.postMessage({ id: request.id, value } satisfies PasswordAnswer),
      () => port.postMessage({ id: request.id } satisfies PasswordAnswer),
    );
  });
}
