/** A body on its way to an upstream: counted, so that no other length leaves than was announced, and named where it fails. */
import type { Readable } from 'node:stream';
import { RegistryError } from '../oci/error.ts';
import { watchedBody } from '../outbound/watched-body.ts';

/** A body under way. */
export interface SentBody {
  readonly body: Readable;
  /** `content-length` where the length is known. */
  readonly headers: Readonly<Record<string, string>>;
  /** The error of the body itself, which whoever sends it sees as a broken connection only. */
  failure(): Error | undefined;
}

/** `size`: bytes that must come; SIZE_INVALID where it is more or fewer. */
export function sentBody(source: Readable, size: number | undefined): SentBody {
  let seen = 0;
  let failure: Error | undefined;
  const fail = (error: Error): Error => {
    failure ??= error;
    return error;
  };
  const body = watchedBody(source, {
    chunk(chunk) {
      seen += chunk.length;
      if (size !== undefined && seen > size) throw fail(sizeInvalid(`more than the ${size}`));
      return chunk;
    },
    end() {
      if (size !== undefined && seen < size) throw fail(sizeInvalid(`${seen} of the ${size}`));
    },
    failed: fail,
  });
  return {
    body,
    headers: size === undefined ? {} : { 'content-length': String(size) },
    failure: () => failure,
  };
}

function sizeInvalid(what: string): RegistryError {
  return new RegistryError('SIZE_INVALID', `The body has ${what} bytes that were announced.`);
}
