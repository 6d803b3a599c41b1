/**
 * Metrics in memory and their text for Prometheus (exposition format 0.0.4). Own code rather than a library: a
 * measurement is one map look-up on the hot path, and a start does not load what only a scrape needs. Every metric has
 * a bounded number of label sets, so that nothing a client sends can make it grow.
 */
import type { Measure, Metrics } from '../kit/log.ts';

/** Most label sets of one metric; what comes beyond is counted with every label `other`. */
const MOST_SERIES = 250;

/** One series' state. `buckets` and `sum` are a histogram's; `value` is its count. */
interface Series {
  readonly labels: string;
  value: number;
  sum: number;
  readonly buckets: number[];
}

/** One metric with all its series, as plain data: what processes of one host send each other. */
export interface MetricSnapshot {
  readonly name: string;
  readonly help: string;
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly bounds: readonly number[];
  readonly series: readonly Series[];
}

/** A metric as it is kept: the series by their labels' text, too. */
interface Kept {
  readonly snapshot: MetricSnapshot & { readonly series: Series[] };
  readonly byLabels: Map<string, Series>;
}

/** The process's metrics. */
export interface MetricStore extends Metrics {
  /** Called at each scrape, to set gauges that are cheaper to ask than to keep. */
  onScrape(work: () => void): void;
  snapshot(): MetricSnapshot[];
  /** This process's text, or that of several processes' snapshots added up. */
  text(snapshots?: readonly (readonly MetricSnapshot[])[]): string;
}

/** New, empty metrics. A name that was made before gives the same metric again. */
export function openMetrics(): MetricStore {
  const metrics = new Map<string, Kept>();
  const scrapes: (() => void)[] = [];

  const make = (kind: MetricSnapshot['kind'], name: string, help: string, bounds: readonly number[]): Measure => {
    if (!/^[a-z_][a-z0-9_]*$/.test(name)) throw new Error(`not a metric's name: ${name}`);
    const known = metrics.get(name);
    if (known !== undefined && known.snapshot.kind !== kind) throw new Error(`two kinds of metric are called ${name}`);
    const metric: Kept = known ?? { snapshot: { name, help, kind, bounds, series: [] }, byLabels: new Map() };
    metrics.set(name, metric);
    const { byLabels } = metric;
    const seriesOf = (labels: string): Series => {
      const found = byLabels.get(labels);
      if (found !== undefined) return found;
      const added: Series = { labels, value: 0, sum: 0, buckets: bounds.map(() => 0) };
      byLabels.set(labels, added);
      metric.snapshot.series.push(added);
      return added;
    };
    return (value, labels) => {
      let key = labels === undefined ? '' : labelText(labels);
      if (byLabels.size >= MOST_SERIES && !byLabels.has(key)) key = labelText(others(labels ?? {}));
      const one = seriesOf(key);
      if (kind === 'gauge') one.value = value;
      else if (kind === 'counter') one.value += value;
      else {
        one.value += 1;
        one.sum += value;
        for (let index = bounds.length - 1; index >= 0 && value <= bounds[index]!; index--) one.buckets[index]! += 1;
      }
    };
  };

  const snapshot = (): MetricSnapshot[] => {
    for (const work of scrapes) work();
    return [...metrics.values()].map((metric) => metric.snapshot);
  };
  return {
    counter: (name, help) => make('counter', name, help, []),
    gauge: (name, help) => make('gauge', name, help, []),
    histogram: (name, help, buckets) =>
      make(
        'histogram',
        name,
        help,
        [...buckets].sort((a, b) => a - b),
      ),
    onScrape: (work) => void scrapes.push(work),
    snapshot,
    text: (snapshots) => metricsText(snapshots ?? [snapshot()]),
  };
}

/** The exposition text; metrics of one name are added up series by series. */
export function metricsText(snapshots: readonly (readonly MetricSnapshot[])[]): string {
  const merged = new Map<string, MetricSnapshot & { readonly sums: Map<string, Series> }>();
  for (const metric of snapshots.flat()) {
    let into = merged.get(metric.name);
    if (into === undefined) merged.set(metric.name, (into = { ...metric, sums: new Map() }));
    for (const one of metric.series) {
      const sum = into.sums.get(one.labels);
      if (sum === undefined) into.sums.set(one.labels, { ...one, buckets: [...one.buckets] });
      else {
        sum.value += one.value;
        sum.sum += one.sum;
        one.buckets.forEach((count, index) => {
          sum.buckets[index]! += count;
        });
      }
    }
  }
  const lines: string[] = [];
  for (const { name, help, kind, bounds, sums } of merged.values()) {
    lines.push(`# HELP ${name} ${help.replace(/\\/g, '\\\\').replace(/\n/g, '\\n')}`, `# TYPE ${name} ${kind}`);
    for (const one of sums.values()) {
      if (kind !== 'histogram') lines.push(`${name}${braces(one.labels)} ${one.value}`);
      else {
        bounds.forEach((bound, index) => {
          lines.push(`${name}_bucket${braces(one.labels, `le="${bound}"`)} ${one.buckets[index]}`);
        });
        lines.push(`${name}_bucket${braces(one.labels, 'le="+Inf"')} ${one.value}`);
        lines.push(`${name}_sum${braces(one.labels)} ${one.sum}`, `${name}_count${braces(one.labels)} ${one.value}`);
      }
    }
  }
  return `${lines.join('\n')}\n`;
}

/** What every process says of itself, under the names that dashboards know. */
export function processMetrics(metrics: MetricStore, version: string): void {
  const started = performance.timeOrigin / 1000;
  const cpu = metrics.gauge('process_cpu_seconds_total', 'Processor time used, user and system, in seconds.');
  const memory = metrics.gauge('process_resident_memory_bytes', 'Resident memory in bytes.');
  const heap = metrics.gauge('nodejs_heap_size_used_bytes', 'Memory that the JavaScript heap uses, in bytes.');
  const external = metrics.gauge('nodejs_external_memory_bytes', 'Memory of buffers outside the heap, in bytes.');
  const start = metrics.gauge('process_start_time_seconds', 'When the process started, in seconds since 1970.');
  metrics.gauge('longshore_build_info', 'The version that runs; always 1.')(1, { version, node: process.version });
  const busy = metrics.gauge(
    'longshore_event_loop_busy_ratio',
    'Part of the time since the last scrape that the event loop worked.',
  );
  let before = performance.eventLoopUtilization();
  metrics.onScrape(() => {
    const used = process.cpuUsage();
    const { rss, heapUsed, external: outside } = process.memoryUsage();
    cpu((used.user + used.system) / 1e6);
    memory(rss);
    heap(heapUsed);
    external(outside);
    start(started);
    const now = performance.eventLoopUtilization();
    busy(performance.eventLoopUtilization(now, before).utilization);
    before = now;
  });
}

function labelText(labels: Readonly<Record<string, string>>): string {
  let text = '';
  for (const name in labels) {
    const value = labels[name]!;
    text += `${text === '' ? '' : ','}${name}="${/["\\\n]/.test(value) ? value.replace(/[\\"]/g, '\\$&').replace(/\n/g, '\\n') : value}"`;
  }
  return text;
}

function others(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.keys(labels).map((name) => [name, 'other']));
}

function braces(labels: string, more = ''): string {
  const all = labels === '' ? more : more === '' ? labels : `${labels},${more}`;
  return all === '' ? '' : `{${all}}`;
}
