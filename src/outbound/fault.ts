/** The errors of what goes out: FaultError with the other side's origin and nothing else of its URL. */
import { type FaultCode, FaultError } from '../oci/error.ts';

/** Why something was not asked, beyond its code. */
export interface OutboundDetail {
  /** The address is closed by the policy: asking again is of no use before the configuration changes. */
  readonly refused: 'address';
}

/** `https://registry.example.org did not answer in time.` */
export function outboundFault(
  code: FaultCode,
  url: URL | undefined,
  what: string,
  cause?: Error,
  detail?: OutboundDetail,
): FaultError {
  return new FaultError(code, `${url === undefined ? 'What was to be asked' : url.origin} ${what}.`, {
    ...(cause === undefined ? {} : { cause }),
    ...(detail === undefined ? {} : { detail }),
  });
}

/** Whether a request failed because its address is closed by the policy. */
export function isRefusedAddress(error: unknown): boolean {
  return error instanceof FaultError && (error.detail as OutboundDetail | undefined)?.refused === 'address';
}
