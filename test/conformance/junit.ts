/** The cases in a JUnit file, as both conformance programs write it. Not an XML parser: it reads what they write. */

/** One case. */
export interface JunitCase {
  readonly name: string;
  readonly status: string;
  /** What went wrong, shortened. */
  readonly message: string;
}

const NAMED: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

function unescaped(text: string): string {
  return text.replaceAll(
    /&(?:#x([0-9A-Fa-f]+)|#(\d+)|(\w+));/g,
    (whole, hex?: string, decimal?: string, name?: string) => {
      if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
      if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
      return NAMED[name ?? ''] ?? whole;
    },
  );
}

function attribute(tag: string, name: string): string {
  return unescaped(new RegExp(`\\b${name}="([^"]*)"`).exec(tag)?.[1] ?? '');
}

/** Every `<testcase>` of the text, in order. */
export function junitCases(text: string): JunitCase[] {
  const cases: JunitCase[] = [];
  for (const piece of text.split('<testcase').slice(1)) {
    const tag = piece.slice(0, piece.indexOf('>'));
    const failure = /<(?:failure|error)\b[^>]*>([^<]*)/.exec(piece);
    cases.push({
      name: attribute(tag, 'name'),
      status: attribute(tag, 'status'),
      message: failure === null ? '' : unescaped(failure[0]).slice(0, 1_500),
    });
  }
  return cases;
}

/** The numbers that the file itself claims in its `<testsuite>`. */
export function junitTotals(text: string): { tests: number; failures: number; errors: number; disabled: number } {
  const tag = /<testsuite [^>]*>/.exec(text)?.[0] ?? '';
  const number = (name: string): number => Number(attribute(tag, name) || '0');
  return {
    tests: number('tests'),
    failures: number('failures'),
    errors: number('errors'),
    disabled: number('disabled'),
  };
}
