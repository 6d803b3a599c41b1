/** What every room may say: log lines and measurements. `telemetry` implements both. */

/** A line's fields. An Error is written with its stack and causes, never to a client. */
export type Fields = Readonly<Record<string, string | number | boolean | Error | undefined>>;
/** One line of one level. */
export type Line = (message: string, fields?: Fields) => void;

/** A structured log. Secrets never go in; whoever has one leaves it out. */
export interface Log {
  readonly debug: Line;
  readonly info: Line;
  readonly warn: Line;
  readonly error: Line;
  /** The same log with these fields on every line. */
  child(fields: Fields): Log;
}

/** One measurement. Label values come from closed sets, never from a name, tag or agent. */
export type Measure = (value: number, labels?: Readonly<Record<string, string>>) => void;

/** Makes the measures of a room, each once. Names start with `longshore_` and end in their unit. */
export interface Metrics {
  counter(name: string, help: string): Measure;
  gauge(name: string, help: string): Measure;
  histogram(name: string, help: string, buckets: readonly number[]): Measure;
}

const nothing = (): void => {};

/** A log that says nothing; for tests and tools. */
export const silentLog: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing, child: () => silentLog };

/** Metrics that count nothing; for tests and tools. */
export const noMetrics: Metrics = { counter: () => nothing, gauge: () => nothing, histogram: () => nothing };
