/** The room's measurements: requests and their time, by labels from closed sets that are made once. */
import type { Metrics } from '../kit/log.ts';

const METHODS = new Set(['GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS']);
const BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800];

/** Counts one request. `route`: a route's kind, or `none`. */
export type CountRequest = (method: string, route: string, status: number, seconds: number) => void;

type Labels = Readonly<Record<string, string>>;

/** Makes the measures, once per handler. */
export function requestMeasures(metrics: Metrics): CountRequest {
  const total = metrics.counter('longshore_protocol_requests_total', 'Requests to /v2/ that were answered.');
  const time = metrics.histogram(
    'longshore_protocol_request_seconds',
    'Time from the head of a request to /v2/ to the last byte of its answer.',
    BUCKETS,
  );
  const labels = new Map<string, Map<string, readonly Labels[]>>();

  function labelsOf(method: string, route: string): readonly Labels[] {
    const known = METHODS.has(method) ? method : 'other';
    let routes = labels.get(known);
    if (routes === undefined) labels.set(known, (routes = new Map()));
    let classes = routes.get(route);
    if (classes === undefined) {
      classes = [1, 2, 3, 4, 5].map((n) => ({ method: known, route, status: `${n}xx` }));
      routes.set(route, classes);
    }
    return classes;
  }

  return (method, route, status, seconds) => {
    const label = (labels.get(method)?.get(route) ?? labelsOf(method, route))[((status / 100) | 0) - 1]!;
    total(1, label);
    time(seconds, label);
  };
}
