/** Whole blobs by curl, one process a client, the bytes dropped. Without curl by node:http. */
import { execFile } from 'node:child_process';
import { cpuSeconds } from './cpu.ts';
import { type Driven, drive } from './drive.ts';
import { remember } from './processes.ts';
import type { Tools } from './types.ts';

/** What is pulled: every client its own path, `each` times. */
export interface Pull {
  readonly url: string;
  readonly pid: number;
  readonly ca?: string | undefined;
  readonly paths: readonly string[];
  readonly each: number;
  readonly http: '1.1' | '2';
  /** Redirects are followed. */
  readonly follow?: boolean;
}

/** Pulls; a wrong status or length throws. */
export async function pull(asked: Pull, size: number, tools: Tools): Promise<Driven> {
  const { url, pid, ca, paths, each, http } = asked;
  const bytes = size * paths.length * each;
  if (tools.curl === undefined) {
    if (http === '2') throw new Error('curl is not there: install it for pulls over HTTP/2');
    const done = await drive({ kind: 'pull', url, paths, each, ...(ca === undefined ? {} : { ca }) }, pid);
    if (done.bytes !== bytes) throw new Error(`${done.bytes} bytes came instead of ${bytes}`);
    return done;
  }
  const before = cpuSeconds(pid);
  const started = performance.now();
  const oneClient = (path: string): Promise<void> =>
    new Promise((done, fail) => {
      const args = ['-sS', '--noproxy', '*', http === '2' ? '--http2' : '--http1.1'];
      args.push('-w', '%{http_code} %{http_version} %{size_download}\\n');
      if (ca !== undefined) args.push('--cacert', ca);
      if (asked.follow === true) args.push('-L');
      for (let index = 0; index < each; index++) args.push('-o', '/dev/null', `${url}${path}`);
      const child = execFile(
        tools.curl!,
        args,
        { timeout: 300_000, killSignal: 'SIGKILL' },
        (error, output, complaint) => {
          const want = `200 ${http} ${size}`;
          const wrong = output
            .trim()
            .split('\n')
            .find((line) => line !== want);
          if (error !== null) fail(new Error(`curl: ${complaint.slice(0, 300) || error.message}`));
          else if (wrong !== undefined) fail(new Error(`curl: "${wrong}" instead of "${want}"`));
          else done();
        },
      );
      remember(child);
    });
  await Promise.all(paths.map(oneClient));
  const seconds = (performance.now() - started) / 1000;
  const cpu = cpuSeconds(pid) - before;
  const none = Number.NaN;
  return { seconds, count: paths.length * each, bytes, p50: none, p99: none, worst: none, errors: 0, cpu };
}
