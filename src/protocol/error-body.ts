/** An error as `/v2/` says it: `{"errors":[{code,message,detail}]}` (distribution-spec, "Error Codes"). */
import type { RegistryError } from '../oci/error.ts';

/** The JSON text of one error. A detail that cannot be written is left out. */
export function errorBody(code: string, message: string, detail?: unknown): string {
  if (detail !== undefined) {
    try {
      return JSON.stringify({ errors: [{ code, message, detail }] });
    } catch {
      // Falls through: an answer without detail is better than none.
    }
  }
  return JSON.stringify({ errors: [{ code, message }] });
}

/** The body for an error of the seam. An unforeseen one carries the request's id, by which the log knows it. */
export function registryErrorBody(error: RegistryError, requestId: string): string {
  return errorBody(error.code, error.message, error.code === 'UNKNOWN' ? { requestId } : error.detail);
}
