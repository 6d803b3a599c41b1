/** Certificates for tests, made by the machine's openssl. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** An authority in a folder of its own. */
export interface Authority {
  readonly folder: string;
  readonly certificate: string;
  /** A certificate of this authority: the paths of its files. */
  issue(name: string, serial: number): { readonly certificate: string; readonly key: string };
  remove(): void;
}

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: 'pipe' });
}

const CURVE = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** Makes an authority. */
export function authority(name: string): Authority {
  const folder = mkdtempSync(join(tmpdir(), 'longshore-tls-'));
  const certificate = join(folder, 'ca.pem');
  const key = join(folder, 'ca.key');
  openssl('req', '-x509', ...CURVE, '-days', '2', '-subj', `/CN=${name}`, '-keyout', key, '-out', certificate);
  return {
    folder,
    certificate,
    issue(common, serial) {
      const own = join(folder, `${serial}`);
      writeFileSync(`${own}.ext`, 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
      openssl('req', ...CURVE, '-subj', `/O=Test/CN=${common}`, '-keyout', `${own}.key`, '-out', `${own}.csr`);
      openssl(
        'x509',
        '-req',
        '-in',
        `${own}.csr`,
        '-CA',
        certificate,
        '-CAkey',
        key,
        '-set_serial',
        `${serial}`,
        '-days',
        '2',
        '-extfile',
        `${own}.ext`,
        '-out',
        `${own}.pem`,
      );
      return { certificate: `${own}.pem`, key: `${own}.key` };
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
