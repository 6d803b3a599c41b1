/**
 * Both generations of the official conformance programs against a registry, every API and option on. Numbers are
 * asserted, never exit codes: both programs can end with 0 while hundreds of their tests were skipped.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '../support/temp.ts';
import { runAny } from '../support/tools.ts';
import { type JunitCase, junitCases, junitTotals } from './junit.ts';

/** A registry to be judged: it takes every push, of sparse indexes too. */
export interface Judged {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** `127.0.0.1:PORT` */
  readonly host: string;
}

/** Fewest cases of the rewrite that have to pass with every option on, and with its stable defaults. */
const LEAST_DEV = 830;
const LEAST_STABLE = 690;
/** The rewrite's own count of its tests, groups of cases included, with every option on. */
const LEAST_CLAIMED = 1_026;
/** The older suite: what passes when everything is on. */
const LEAST_GINKGO = 76;

/** The older suite skips the other side of each either-or, whatever the registry does; nothing else may be skipped. */
const GINKGO_SKIPS = [
  'Pull Setup Get tag name from environment',
  'Push Cross-Repository Blob Mount Cross-mounting of nonexistent blob should yield session id',
  'Push Cross-Repository Blob Mount Cross-mounting without from, and automatic content discovery disabled should return a 202',
  'Content Discovery Setup Populate registry with test tags (no push)',
].map((name) => `[It] OCI Distribution Conformance Tests ${name}`);

/** What the rewrite's stable version does not ask for: the development run does. */
const STABLE_SKIPS = ['sha256', 'sha512'].map(
  (algorithm) => `OCI Conformance Test/${algorithm} blobs/post cancel/blob-post-cancel`,
);

/** Runs one of the programs in an empty folder and reads its JUnit file. */
async function judge(
  program: string,
  env: (folder: string) => Record<string, string>,
): Promise<{ cases: JunitCase[]; text: string }> {
  const folder = temporaryFolder('conformance');
  const ran = await runAny(program, [], { cwd: folder, env: env(folder), limit: 300_000 });
  let text: string;
  try {
    text = readFileSync(join(folder, 'junit.xml'), 'utf8');
  } catch {
    throw new Error(
      `no junit.xml was written (exit ${ran.code}):\n${ran.stdout.slice(-4_000)}${ran.stderr.slice(-4_000)}`,
    );
  }
  return { cases: junitCases(text), text };
}

/** Fails unless every case passed, but for those named. `disabled`: how many of those the suite's defaults turn off. */
function check(
  result: { cases: JunitCase[]; text: string },
  least: number,
  skips: readonly string[],
  disabled = 0,
): number {
  const { cases, text } = result;
  const bad = cases.filter(({ status }) => status !== 'passed' && status !== 'skipped');
  assert.deepEqual(
    bad.map(({ name, status, message }) => `${status}: ${name}\n${message}`),
    [],
    `${bad.length} of ${cases.length} failed`,
  );
  const skipped = cases.filter(({ status }) => status === 'skipped').map(({ name }) => name);
  assert.deepEqual(skipped.sort(), [...skips].sort(), 'what was skipped');
  const claimed = junitTotals(text);
  assert.equal(claimed.failures, 0);
  assert.equal(claimed.errors, 0);
  assert.equal(claimed.disabled, disabled);
  const passed = cases.length - skipped.length;
  assert.ok(passed >= least, `${passed} passed, at least ${least} have to`);
  return passed;
}

function environment(server: Judged, folder: string): Record<string, string> {
  return {
    OCI_REGISTRY: server.host,
    OCI_TLS: 'disabled',
    OCI_REPO1: 'conformance/one',
    OCI_REPO2: 'conformance/two',
    OCI_RESULTS_DIR: folder,
  };
}

/** The rewrite, its development version with every switch on. Gives what passed, in words. */
export async function judgeDevelopment(program: string, server: Judged): Promise<string> {
  const result = await judge(program, (folder) => ({
    ...environment(server, folder),
    OCI_VERSION: 'dev',
    OCI_DATA_SPARSE: 'true',
  }));
  // Every switch of its configuration is on: its own record of it says so.
  const config = /<property name="Config" value="([^"]*)"/.exec(result.text)?.[1] ?? '';
  assert.match(config, /sparse: true/);
  assert.doesNotMatch(config, /: false(&#xA;|$)/);
  const { tests } = junitTotals(result.text);
  const passed = check(result, LEAST_DEV, []);
  assert.ok(tests >= LEAST_CLAIMED, `${tests} tests by its own count, at least ${LEAST_CLAIMED} were expected`);
  return `${passed} cases passed, ${tests} tests by its own count`;
}

/** The rewrite with its stable defaults. */
export async function judgeStable(program: string, server: Judged): Promise<string> {
  const result = await judge(program, (folder) => environment(server, folder));
  return `${check(result, LEAST_STABLE, STABLE_SKIPS, STABLE_SKIPS.length)} passed`;
}

/** The suite of 1.1, every workflow on. */
export async function judgeGinkgo(program: string, server: Judged): Promise<string> {
  const result = await judge(program, (folder) => ({
    OCI_ROOT_URL: server.url,
    OCI_NAMESPACE: 'conformance/one',
    OCI_CROSSMOUNT_NAMESPACE: 'conformance/two',
    OCI_AUTOMATIC_CROSSMOUNT: '1',
    OCI_TEST_PULL: '1',
    OCI_TEST_PUSH: '1',
    OCI_TEST_CONTENT_DISCOVERY: '1',
    OCI_TEST_CONTENT_MANAGEMENT: '1',
    OCI_DELETE_MANIFEST_BEFORE_BLOBS: '1',
    OCI_HIDE_SKIPPED_WORKFLOWS: '0',
    OCI_REPORT_DIR: folder,
  }));
  return `${check(result, LEAST_GINKGO, GINKGO_SKIPS)} passed`;
}
