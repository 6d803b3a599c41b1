/** The `Call` of a request. What few methods ask for (signal, origin) is made when it is asked for. */
import type { Origin } from '../kit/facts.ts';
import type { Call, Principal } from '../registry/call.ts';
import type { ProtocolPeer, Response } from './parts.ts';

const LONGEST_TEXT = 256;

/** A text from outside, cut to what facts and log lines may hold. */
export function bounded(text: string, most = LONGEST_TEXT): string {
  return text.length > most ? text.slice(0, most) : text;
}

/** Made once per request. */
export class RequestCall implements Call {
  readonly principal: Principal;
  readonly requestId: string;
  readonly #response: Response;
  readonly #peer: ProtocolPeer;
  readonly #method: string;
  readonly #userAgent: string | undefined;
  #origin: Origin | undefined;
  #controller: AbortController | undefined;

  constructor(from: {
    principal: Principal;
    requestId: string;
    response: Response;
    peer: ProtocolPeer;
    method: string;
    userAgent: string | undefined;
  }) {
    this.principal = from.principal;
    this.requestId = from.requestId;
    this.#response = from.response;
    this.#peer = from.peer;
    this.#method = from.method;
    this.#userAgent = from.userAgent;
  }

  get origin(): Origin {
    this.#origin ??= {
      address: bounded(this.#peer.address),
      host: bounded(this.#peer.host),
      method: this.#method,
      ...(this.#userAgent === undefined ? {} : { userAgent: bounded(this.#userAgent) }),
    };
    return this.#origin;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = new AbortController();
      const response = this.#response;
      this.#controller = controller;
      const gone = (): void => {
        if (!response.writableFinished) controller.abort(new Error('the client has gone'));
      };
      if (response.destroyed) gone();
      else response.once('close', gone);
    }
    return this.#controller.signal;
  }
}
