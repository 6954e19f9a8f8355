/**
 * Traces and metrics to an OpenTelemetry collector, as the usual `OTEL_*` variables say: OTLP over HTTP, and nothing at all
 * without an endpoint.
 *
 * A collector that cannot be reached costs a warning, and at the end a moment: what cannot be sent is dropped.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as Layer from "effect/Layer"
import * as OtlpMetrics from "effect/observability/OtlpMetrics"
import * as OtlpSerialization from "effect/observability/OtlpSerialization"
import * as OtlpTracer from "effect/observability/OtlpTracer"
import * as Option from "effect/Option"
import * as Variable from "../config/Variable.ts"
import { version } from "../internal/Version.ts"

const shutdownTimeout = "1 second"

const parseUrl = (text: string) =>
  URL.canParse(text) && /^https?:$/.test(new URL(text).protocol) ? Option.some(new URL(text)) : Option.none()

const parsePairs = (text: string): Option.Option<Readonly<Record<string, string>>> => {
  const pairs = text.split(",").filter((pair) => pair.trim() !== "").map((pair) =>
    /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/.exec(pair)
  )
  return pairs.every((pair) => pair !== null)
    ? Option.liftThrowable(() =>
      Object.fromEntries(pairs.map((pair) => [decodeURIComponent(pair![1]!), decodeURIComponent(pair![2]!)]))
    )()
    : Option.none()
}

const parseBoolean = (text: string) =>
  Option.map(Variable.oneOf("true", "false")(text.toLowerCase()), (word) => word === "true")

const url = (name: string) => Variable.make(name, "a URL such as http://127.0.0.1:4318", parseUrl)

const millis = (name: string) =>
  Config.map(
    Variable.make(name, "a whole number of milliseconds, at least 1", Variable.wholeNumber(1)),
    (given) => Option.getOrUndefined(Option.map(given, (value) => Duration.millis(value)))
  )

const ofSignal = <A>(name: string, signal: string, of: (name: string) => Config.Config<Option.Option<A>>) =>
  Config.map(
    Config.all([of(`OTEL_EXPORTER_OTLP_${signal}_${name}`), of(`OTEL_EXPORTER_OTLP_${name}`)]),
    ([own, both]) => Option.orElse(own, () => both)
  )

const pairs = (name: string) => Variable.make(name, "pairs such as key=value,other=value, percent-encoded", parsePairs)

// The specification knows more than there is here, and clusters set it for whatever runs in them: that is no mistake.
const exporters = {
  TRACES: ["otlp", "none", "console", "logging", "zipkin", "jaeger"],
  METRICS: ["otlp", "none", "console", "logging", "prometheus"]
} as const

const exporterOf = (name: "TRACES" | "METRICS") =>
  Variable.withDefault(`OTEL_${name}_EXPORTER`, "\"otlp\" or \"none\"", Variable.oneOf(...exporters[name]), "otlp")

const protocolOf = (name: "TRACES" | "METRICS") =>
  ofSignal(
    "PROTOCOL",
    name,
    (name) =>
      Variable.make(
        name,
        "\"http/protobuf\" or \"http/json\"",
        Variable.oneOf("http/protobuf", "http/json", "grpc")
      )
  )

const signal = Effect.fnUntraced(function*(name: "TRACES" | "METRICS", unsupported: Array<string>) {
  const own = yield* url(`OTEL_EXPORTER_OTLP_${name}_ENDPOINT`)
  const base = yield* url("OTEL_EXPORTER_OTLP_ENDPOINT")
  const endpoint = Option.orElse(own, () => Option.map(base, (url) => below(url, `v1/${name.toLowerCase()}`)))
  if (Option.isNone(endpoint)) return undefined
  const exporter = yield* exporterOf(name)
  if (exporter === "none") return undefined
  const protocol = Option.getOrUndefined(yield* protocolOf(name))
  if (exporter !== "otlp" || protocol === "grpc") {
    unsupported.push(`${name.toLowerCase()} ${exporter === "otlp" ? protocol : exporter}`)
    return undefined
  }
  return {
    url: endpoint.value.href,
    headers: Option.getOrUndefined(yield* ofSignal("HEADERS", name, pairs)),
    compression: Option.getOrUndefined(
      yield* ofSignal(
        "COMPRESSION",
        name,
        (name) => Variable.make(name, "\"gzip\" or \"none\"", Variable.oneOf("gzip", "none"))
      )
    ),
    serialization: protocol === "http/json" ? OtlpSerialization.layerJson : OtlpSerialization.layerProtobuf
  }
})

const below = (base: URL, path: string) => {
  const url = new URL(base)
  url.pathname = `${url.pathname.replace(/\/$/, "")}/${path}`
  return url
}

const disabled = Variable.withDefault("OTEL_SDK_DISABLED", "\"true\" or \"false\"", parseBoolean, false)

const settings = Config.all({
  serviceName: Variable.make("OTEL_SERVICE_NAME", "a text", Option.some<string>),
  attributes: pairs("OTEL_RESOURCE_ATTRIBUTES"),
  traceInterval: millis("OTEL_BSP_SCHEDULE_DELAY"),
  traceBatch: Variable.make(
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "a whole number of at least 1",
    Variable.wholeNumber(1)
  ),
  metricInterval: millis("OTEL_METRIC_EXPORT_INTERVAL"),
  temporality: Variable.make(
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    "\"cumulative\" or \"delta\"",
    (text) => Variable.oneOf("cumulative", "delta")(text.toLowerCase())
  )
})

/**
 * Fails with one line that names a malformed variable, if it is of use: none is read but what decides that.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never, Config.ConfigError> = Layer.unwrap(Effect.gen(function*() {
  if (yield* disabled) return Layer.empty
  const unsupported: Array<string> = []
  const traces = yield* signal("TRACES", unsupported)
  const metrics = yield* signal("METRICS", unsupported)
  if (unsupported.length > 0) {
    yield* Effect.logWarning("telemetry is exported over OTLP/HTTP only").pipe(
      Effect.annotateLogs({ notExported: unsupported.join(", ") })
    )
  }
  if (traces === undefined && metrics === undefined) return Layer.empty
  const { attributes, metricInterval, serviceName, temporality, traceBatch, traceInterval } = yield* settings
  const { "service.name": name = "spindle", "service.version": release = version, ...others } = Option.getOrElse(
    attributes,
    (): Readonly<Record<string, string>> => ({})
  )
  const resource = {
    serviceName: Option.getOrElse(serviceName, () => name),
    serviceVersion: release,
    attributes: others
  }
  return Layer.mergeAll(
    HttpMiddleware.layerTracerDisabledForUrls(["/livez", "/readyz", "/metrics"]),
    traces === undefined ? Layer.empty : OtlpTracer.layer({
      ...traces,
      resource,
      exportInterval: traceInterval,
      maxBatchSize: Option.getOrUndefined(traceBatch),
      shutdownTimeout
    }).pipe(Layer.provide(traces.serialization)),
    metrics === undefined ? Layer.empty : OtlpMetrics.layer({
      ...metrics,
      resource,
      exportInterval: metricInterval,
      temporality: Option.getOrUndefined(temporality),
      shutdownTimeout
    }).pipe(Layer.provide(metrics.serialization))
  ).pipe(
    // The exporters would read some of the variables once more, and take a malformed one for a bug.
    Layer.provide([client, ConfigProvider.layer(ConfigProvider.fromUnknown({}))])
  )
}))

// The exporters themselves drop what they cannot send, and say nothing.
const client = Layer.effect(
  HttpClient.HttpClient,
  Effect.map(HttpClient.HttpClient, (client) => {
    let failing = false
    return client.pipe(
      HttpClient.filterStatusOk,
      HttpClient.tapError((error) => {
        if (failing) return Effect.void
        failing = true
        return Effect.logWarning("the collector of traces and metrics does not take them", error.message)
      }),
      HttpClient.tap(() =>
        Effect.sync(() => {
          failing = false
        })
      )
    )
  })
).pipe(Layer.provide(FetchHttpClient.layer))
