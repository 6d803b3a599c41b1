/**
 * TLS: HTTP/2 and HTTP/1.1 on one listener, client certificates where an authority is configured, and new certificate
 * files taken up while it runs. Files that do not fit together are refused and the old ones stay.
 */
import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { createSecureServer, type Http2SecureServer, type ServerHttp2Session } from 'node:http2';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { every } from '../kit/clock.ts';
import type { Log } from '../kit/log.ts';

/** The files. */
export interface TlsFiles {
  readonly certificate: string;
  readonly key: string;
  readonly clientCa?: string | undefined;
  readonly requireClientCertificate: boolean;
}

/** Bounds of a TLS listener. */
export interface TlsLimits {
  readonly handshakeSeconds: number;
  readonly http2Streams: number;
  readonly http2StreamWindowBytes: number;
  readonly http2SessionWindowBytes: number;
  readonly headerBytes: number;
  readonly headersSeconds: number;
  readonly keepAliveSeconds: number;
}

/** How often the files are looked at, milliseconds. Their folder may be a link that is turned, so nothing is watched. */
const LOOK_EVERY = 2_000;

/** A TLS server and how its certificates are changed. */
export interface TlsServer {
  readonly server: Http2SecureServer;
  /** Takes up the files if they changed; whether they did. Bad files are logged and the old stay. */
  reload(): boolean;
  /** No longer looks at the files. */
  stopLooking(): void;
  /** Tells every HTTP/2 client to open no more streams. */
  closeSessions(): void;
  /** Ends every HTTP/2 connection. */
  destroySessions(): void;
}

/** Makes the server, not yet listening. Throws where the files cannot be used. */
export function openTls(files: TlsFiles, limits: TlsLimits, log: Log): TlsServer {
  let stamp = stampOf(files);
  const server = createSecureServer({
    ...contextOf(files),
    allowHTTP1: true,
    handshakeTimeout: limits.handshakeSeconds * 1000,
    requestCert: files.clientCa !== undefined,
    rejectUnauthorized: files.requireClientCertificate,
    settings: {
      initialWindowSize: limits.http2StreamWindowBytes,
      maxConcurrentStreams: limits.http2Streams,
      maxHeaderListSize: limits.headerBytes,
      enablePush: false,
    },
    maxSessionMemory: 32,
    unknownProtocolTimeout: 5_000,
    // For HTTP/1.1 on the same listener.
    ...({
      maxHeaderSize: limits.headerBytes,
      requestTimeout: 0,
      headersTimeout: limits.headersSeconds * 1000,
      keepAliveTimeout: limits.keepAliveSeconds * 1000,
    } as object),
  });
  const sessions = new Set<ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
    session.setLocalWindowSize(limits.http2SessionWindowBytes);
    let streams = 0;
    session.on('stream', (stream) => {
      streams++;
      stream.once('close', () => streams--);
    });
    // Quiet for that long and nothing under way: the connection goes, as it does in HTTP/1.1.
    session.setTimeout(limits.keepAliveSeconds * 1000, () => {
      if (streams === 0) session.close();
    });
  });
  // Whoever breaks the protocol loses the connection; that is not this server's error.
  server.on('sessionError', (error) => log.debug('an HTTP/2 connection broke', { error }));
  server.on('tlsClientError', (error, socket) => {
    log.debug('a TLS handshake failed', { error });
    socket.destroy();
  });

  const reload = (): boolean => {
    let now: string;
    try {
      now = stampOf(files);
    } catch (error) {
      log.error('the TLS files cannot be read; the certificate in use stays', { error: error as Error });
      return false;
    }
    if (now === stamp) return false;
    stamp = now;
    try {
      const context = contextOf(files);
      createSecureContext(context);
      server.setSecureContext(context);
      log.info('the TLS certificate was taken up', { until: new X509Certificate(context.cert as Buffer).validTo });
      return true;
    } catch (error) {
      log.error('the new TLS files cannot be used; the certificate in use stays', { error: error as Error });
      return false;
    }
  };
  return {
    server,
    reload,
    stopLooking: every(LOOK_EVERY, reload),
    closeSessions: () => {
      for (const session of sessions) session.close();
    },
    destroySessions: () => {
      for (const session of sessions) session.destroy();
    },
  };
}

/** The files' bytes, checked to fit together. */
function contextOf(files: TlsFiles): SecureContextOptions {
  const cert = readFileSync(files.certificate);
  const key = readFileSync(files.key);
  const context: SecureContextOptions = { cert, key, minVersion: 'TLSv1.2' };
  if (files.clientCa !== undefined) context.ca = readFileSync(files.clientCa);
  createSecureContext(context);
  return context;
}

/** Differs after every change of a file, also by a link that is turned. */
function stampOf(files: TlsFiles): string {
  return [files.certificate, files.key, ...(files.clientCa === undefined ? [] : [files.clientCa])]
    .map((path) => {
      const { ino, size, mtimeMs } = statSync(path);
      return `${ino}:${size}:${mtimeMs}`;
    })
    .join(' ');
}
