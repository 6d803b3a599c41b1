/** The SDK's client as Longshore uses it. This file and its neighbours are only loaded when S3 is configured. */
import { readFile } from 'node:fs/promises';
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { CONNECT_MILLISECONDS, fault } from '../objects/faults.ts';
import type { S3Settings } from '../settings.ts';
import { statusOf } from './errors.ts';

/** Connections to the store at once; further requests wait for one. */
const SOCKETS = 96;
const silent = (): void => {};
const logger = { trace: silent, debug: silent, info: silent, warn: silent, error: silent };

/** A client. FaultError where the CA file cannot be read. */
export async function s3Client(settings: S3Settings): Promise<S3Client> {
  const { accessKeyId, secretAccessKey, sessionToken } = settings;
  const agent = { keepAlive: true, maxSockets: SOCKETS, scheduling: 'lifo' } as const;
  const ca = settings.ca === undefined ? {} : { ca: await certificates(settings.ca) };
  const checksums = settings.checksums === 'whenRequired' ? 'WHEN_REQUIRED' : 'WHEN_SUPPORTED';
  const config: S3ClientConfig = {
    region: settings.region,
    forcePathStyle: settings.forcePathStyle,
    // The core's signal ends a request; within its time the SDK tries again after 5xx, throttling and lost connections.
    maxAttempts: 3,
    requestChecksumCalculation: checksums,
    // Where a server does not know it, the SDK would wait six seconds before each piece.
    expectContinueHeader: false,
    // Bytes are checked by their digest, not once more by the SDK in JavaScript.
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: CONNECT_MILLISECONDS,
      socketAcquisitionWarningTimeout: 3_600_000,
      httpAgent: agent,
      httpsAgent: { ...agent, ...ca },
      logger,
    },
    logger,
    ...(settings.endpoint === undefined ? {} : { endpoint: settings.endpoint }),
    ...(accessKeyId === undefined || secretAccessKey === undefined
      ? {}
      : { credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) } }),
  };
  const client = new S3Client(config);
  retryConflicts(client);
  return client;
}

/**
 * Two requests that meet (409): the later one is tried again, as after 5xx. AWS asks for that, and a gateway over a
 * file system refuses a name below a folder which just then goes with its last file.
 */
function retryConflicts(client: S3Client): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      try {
        return await next(args);
      } catch (error) {
        if (statusOf(error) === 409) (error as { $retryable?: object }).$retryable ??= {};
        throw error;
      }
    },
    { step: 'finalizeRequest', priority: 'low', name: 'retryConflicts' },
  );
}

/** The text of a PEM file. FaultError where it cannot be read. */
export async function certificates(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    throw fault('unavailable', 'read the file of CA certificates', 'check `ca` of the storage configuration');
  }
}
