/** Both generations of the official conformance tests against the real program. */
import { test } from 'node:test';
import { type Longshore, startLongshore } from '../support/server.ts';
import { withTools } from '../support/tools.ts';
import { judgeDevelopment, judgeGinkgo, judgeStable } from './suites.ts';

async function withServer(work: (server: Longshore) => Promise<void>): Promise<void> {
  const server = await startLongshore({ config: { manifests: { sparse: 'all' } } });
  try {
    await work(server);
  } finally {
    await server.stop();
  }
}

withTools(['conformance'], 'conformance, the rewrite', (program) => {
  test('the rewrite, development version, every API and option on', (t) =>
    withServer(async (server) => t.diagnostic(await judgeDevelopment(program, server))));

  test('the rewrite, its stable defaults', (t) =>
    withServer(async (server) => t.diagnostic(await judgeStable(program, server))));
});

withTools(['conformance-ginkgo'], 'conformance, the suite of 1.1', (program) => {
  test('the suite of 1.1, every workflow on', (t) =>
    withServer(async (server) => t.diagnostic(await judgeGinkgo(program, server))));
});
