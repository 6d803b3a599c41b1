/**
 * Traces by OpenTelemetry over OTLP/HTTP. Nothing of it is loaded unless an endpoint is configured; without one there
 * is no `Tracing` and callers do not trace.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Span, SpanContext, Tracer } from '@opentelemetry/api';
import type { TracerProviderOptions } from '@opentelemetry/sdk-trace';
import type { Log } from '../kit/log.ts';

/** Where traces go and how many. */
export interface TraceOptions {
  /** The OTLP/HTTP address, `…/v1/traces`. */
  readonly endpoint: string;
  /** From 0 to 1; a caller's own decision in `traceparent` is followed. */
  readonly sampleRatio: number;
  readonly version: string;
}

/** A piece of work under way. */
export interface TraceSpan {
  set(name: string, value: string | number): void;
  /** Ends it; `error` marks it failed. Only the error's name and code are recorded, never its text. */
  end(error?: unknown): void;
  /** Runs `work` so that spans begun in it are children of this one. */
  within<T>(work: () => T): T;
  /** From here on, what this call chain begins are children of this one. */
  enter(): void;
}

/** Traces while they are on. */
export interface Tracing {
  /** A span of a request; `traceparent` (W3C trace context) is the header as it came. */
  request(name: string, traceparent: string | undefined): TraceSpan;
  /** A span within the present one. */
  span(name: string): TraceSpan;
  /** Sends what is left. */
  close(): Promise<void>;
}

type Resource = NonNullable<TracerProviderOptions['resource']>;

const PARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

/** Starts tracing. The exporter never fails a request: what cannot be sent is dropped and logged at most once a minute. */
export async function openTracing(options: TraceOptions, log: Log): Promise<Tracing> {
  const [api, sdk, { OTLPTraceExporter }] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/exporter-trace-otlp-http'),
  ]);
  let complained = Number.NEGATIVE_INFINITY;
  api.diag.setLogger(
    {
      error: () => {
        if (performance.now() - complained < 60_000) return;
        complained = performance.now();
        log.warn('traces could not be sent', { endpoint: new URL(options.endpoint).host });
      },
      warn: () => undefined,
      info: () => undefined,
      debug: () => undefined,
      verbose: () => undefined,
    },
    api.DiagLogLevel.ERROR,
  );
  const provider = new sdk.TracerProvider({
    resource: serviceResource(options.version),
    sampler: new sdk.ParentBasedSampler({ root: new sdk.TraceIdRatioBasedSampler(options.sampleRatio) }),
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter: new OTLPTraceExporter({ url: options.endpoint }) })],
  });
  const tracer: Tracer = provider.getTracer('longshore', options.version);
  const present = new AsyncLocalStorage<Span>();

  const begin = (name: string, parent: Span | SpanContext | undefined, kind: number): TraceSpan => {
    const context =
      parent === undefined
        ? api.ROOT_CONTEXT
        : 'spanContext' in parent
          ? api.trace.setSpan(api.ROOT_CONTEXT, parent)
          : api.trace.setSpanContext(api.ROOT_CONTEXT, parent);
    const span = tracer.startSpan(name, { kind }, context);
    return {
      set: (key, value) => void span.setAttribute(key, value),
      end: (error) => {
        if (error !== undefined) {
          const { name: type, code } = error as { name?: unknown; code?: unknown };
          span.setStatus({ code: api.SpanStatusCode.ERROR });
          span.setAttribute('error.type', String(code ?? type ?? 'error').slice(0, 100));
        }
        span.end();
      },
      within: (work) => present.run(span, work),
      enter: () => present.enterWith(span),
    };
  };
  return {
    request: (name, traceparent) => {
      const found = PARENT.exec(traceparent ?? '');
      const parent: SpanContext | undefined =
        found === null
          ? undefined
          : { traceId: found[1]!, spanId: found[2]!, traceFlags: Number.parseInt(found[3]!, 16) & 1, isRemote: true };
      return begin(name, parent, api.SpanKind.SERVER);
    },
    span: (name) => begin(name, present.getStore(), api.SpanKind.INTERNAL),
    close: async () => {
      await provider.shutdown().catch(() => undefined);
    },
  };
}

/** Who sends: the service's name and version. */
function serviceResource(version: string): Resource {
  const attributes = { 'service.name': 'longshore', 'service.version': version };
  const resource: Resource = {
    attributes,
    merge: () => resource,
    getRawAttributes: () => Object.entries(attributes),
  };
  return resource;
}
