/**
 * Traces and metrics to an OpenTelemetry collector, as the usual `OTEL_*` variables say: OTLP over HTTP, and nothing at all
 * without an endpoint.
 *
 * Clusters set these variables for whatever runs in them. So none of them stops the worker: what is malformed, or not known
 * here, costs a warning and counts as not set, as OpenTelemetry's specification wants it. A collector that cannot be reached
 * costs a warning, and at the end a moment: what cannot be sent is dropped.
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
import * as Collector from "./Collector.ts"

const shutdownTimeout = "1 second"
const exportTimeout = Duration.seconds(10)

type Signal = "TRACES" | "METRICS"

interface Ignored {
  readonly allowed: string
  /** Not told of a variable that has secrets. */
  readonly given?: string
}

/** Reads variables, and remembers those that are not used as they are. */
const makeReader = () => {
  const ignored = new Map<string, Ignored>()

  const text = (name: string): Effect.Effect<string | undefined> =>
    Config.option(Config.String(name)).pipe(
      Effect.map((given) => Option.getOrElse(given, () => "").trim() || undefined),
      Effect.orElseSucceed(() => undefined)
    )

  const read = <A>(name: string, allowed: string, parse: (text: string) => Option.Option<A>) =>
    Effect.map(text(name), (given) => {
      if (given === undefined) return undefined
      const value = parse(given)
      if (Option.isNone(value)) ignored.set(name, { given: withoutSecrets(given), allowed })
      return Option.getOrUndefined(value)
    })

  /** A variable of the signal alone, or else that of both. */
  const ofSignal = <A>(signal: Signal, name: string, of: (name: string) => Effect.Effect<A | undefined>) =>
    Effect.filterOrElse(
      of(`OTEL_EXPORTER_OTLP_${signal}_${name}`),
      (own) => own !== undefined,
      () => of(`OTEL_EXPORTER_OTLP_${name}`)
    )

  const url = (name: string) =>
    read(name, "an http or https URL without user and password, such as http://127.0.0.1:4318", parseUrl)

  const millis = (name: string) =>
    Effect.map(
      read(name, "a whole number of milliseconds, at least 1", Variable.wholeNumber(1)),
      (millis) => millis === undefined ? undefined : Duration.millis(millis)
    )

  const word = <const Words extends ReadonlyArray<string>>(name: string, ...words: Words) =>
    read(
      name,
      words.map((word) => JSON.stringify(word)).join(" or "),
      (text) => Variable.oneOf(...words)(text.toLowerCase())
    )

  const endpoint = Effect.fnUntraced(function*(signal: Signal) {
    const own = yield* url(`OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`)
    if (own !== undefined) return own
    const base = yield* url("OTEL_EXPORTER_OTLP_ENDPOINT")
    return base && below(base, `v1/${signal.toLowerCase()}`)
  })

  /** Those of the list that exist: some of them, or else OTLP. */
  const exporters = Effect.fnUntraced(function*(signal: Signal) {
    const name = `OTEL_${signal}_EXPORTER`
    const given = yield* text(name)
    const words = given?.toLowerCase().split(",").map((word) => word.trim()).filter((word) => word !== "") ?? []
    const known = words.filter((word) => exportersOf[signal].includes(word))
    if (known.length < words.length) ignored.set(name, { given: given!, allowed: "\"otlp\" or \"none\"" })
    return known.length === 0 ? ["otlp"] : known
  })

  const headers = Effect.fnUntraced(function*(name: string) {
    const given = yield* text(name)
    if (given === undefined) return undefined
    const { malformed, pairs } = parsePairs(given)
    const valid = pairs.filter(([key, value]) => isHeader(key, value))
    if (malformed || valid.length < pairs.length) ignored.set(name, { allowed: allowedPairs })
    return valid.length === 0 ? undefined : Object.fromEntries(valid)
  })

  const attributes = read("OTEL_RESOURCE_ATTRIBUTES", allowedPairs, (text) => {
    const { malformed, pairs } = parsePairs(text)
    return malformed ? Option.none() : Option.some(Object.fromEntries(pairs))
  })

  return { ignored, read, text, ofSignal, millis, word, endpoint, exporters, headers, attributes }
}

const parseUrl = (text: string) =>
  Option.filter(
    Option.fromNullishOr(URL.parse(text)),
    ({ password, protocol, username }) => /^https?:$/.test(protocol) && username === "" && password === ""
  )

const withoutSecrets = (text: string) => text.replace(/^(.*\/\/)?[^/]*@/, "$1…@").replace(/\?.*/s, "?…")

const allowedPairs = "pairs such as key=value,other=value, percent-encoded"

const decode = Option.liftThrowable(decodeURIComponent)

const parsePairs = (text: string) => {
  const members = text.split(",").filter((member) => member.trim() !== "")
  const pairs = members.flatMap((member) => {
    const [, key, value] = /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/s.exec(member) ?? []
    if (key === undefined) return []
    return Option.toArray(Option.all([decode(key), decode(value!)]))
  })
  return { pairs, malformed: pairs.length < members.length }
}

// One that is not would fail each request.
const isHeader = (name: string, value: string) =>
  Option.isSome(Option.liftThrowable(() => new Headers([[name, value]]))())

// The specification knows more than there is here: that is no mistake.
const exportersOf: Readonly<Record<Signal, ReadonlyArray<string>>> = {
  TRACES: ["otlp", "none", "console", "logging", "otlp/stdout", "zipkin", "jaeger"],
  METRICS: ["otlp", "none", "console", "logging", "otlp/stdout", "prometheus"]
}

const below = (base: URL, path: string) => {
  const url = new URL(base)
  url.pathname = `${url.pathname.replace(/\/$/, "")}/${path}`
  return url
}

const signal = Effect.fnUntraced(
  function*(name: Signal, reader: ReturnType<typeof makeReader>, unsupported: Array<string>) {
    const endpoint = yield* reader.endpoint(name)
    if (endpoint === undefined) return undefined
    const exporters = yield* reader.exporters(name)
    const others = exporters.filter((exporter) => exporter !== "otlp" && exporter !== "none")
    unsupported.push(...others.map((exporter) => `${name.toLowerCase()} ${exporter}`))
    if (!exporters.includes("otlp")) return undefined
    const protocol = yield* reader.ofSignal(
      name,
      "PROTOCOL",
      (name) => reader.word(name, "http/protobuf", "http/json", "grpc")
    )
    if (protocol === "grpc") {
      unsupported.push(`${name.toLowerCase()} grpc`)
      return undefined
    }
    return {
      url: endpoint.href,
      headers: yield* reader.ofSignal(name, "HEADERS", reader.headers),
      compression: yield* reader.ofSignal(name, "COMPRESSION", (name) => reader.word(name, "gzip", "none")),
      timeout: (yield* reader.ofSignal(name, "TIMEOUT", reader.millis)) ?? exportTimeout,
      serialization: protocol === "http/json" ? OtlpSerialization.layerJson : OtlpSerialization.layerProtobuf
    }
  }
)

const settings = Effect.fnUntraced(function*({ attributes, millis, read, text, word }: ReturnType<typeof makeReader>) {
  return {
    serviceName: yield* text("OTEL_SERVICE_NAME"),
    attributes: yield* attributes,
    traceInterval: yield* millis("OTEL_BSP_SCHEDULE_DELAY"),
    traceBatch: yield* read(
      "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
      "a whole number from 1 to 10000",
      Variable.wholeNumber(1, 10_000)
    ),
    metricInterval: yield* millis("OTEL_METRIC_EXPORT_INTERVAL"),
    temporality: yield* word("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative", "delta", "lowmemory")
  }
})

/**
 * Reads no more variables than are of use, and logs a warning for each that cannot be used.
 */
export const layer: Layer.Layer<never> = Layer.unwrap(Effect.gen(function*() {
  const reader = makeReader()
  const built = yield* configured(reader)
  for (const [variable, { allowed, given }] of reader.ignored) {
    yield* Effect.logWarning("a variable cannot be used as it is").pipe(
      Effect.annotateLogs({ variable, ...given === undefined ? {} : { given }, allowed })
    )
  }
  return built
}))

const configured = Effect.fnUntraced(function*(reader: ReturnType<typeof makeReader>) {
  if ((yield* reader.word("OTEL_SDK_DISABLED", "true", "false")) === "true") return Layer.empty
  const unsupported: Array<string> = []
  const traces = yield* signal("TRACES", reader, unsupported)
  const metrics = yield* signal("METRICS", reader, unsupported)
  if (unsupported.length > 0) {
    yield* Effect.logWarning("telemetry is exported over OTLP/HTTP only").pipe(
      Effect.annotateLogs({ notExported: unsupported.join(", ") })
    )
  }
  if (traces === undefined && metrics === undefined) return Layer.empty
  const { attributes, metricInterval, serviceName, temporality, traceBatch, traceInterval } = yield* settings(reader)
  const { "service.name": name = "spindle", "service.version": release = version, ...others } = attributes ?? {}
  const resource = { serviceName: serviceName ?? name, serviceVersion: release, attributes: others }
  // Of counters and histograms, and there is nothing else to differ in, "lowmemory" has differences too.
  const delta = temporality === "delta" || temporality === "lowmemory"
  return Layer.mergeAll(
    HttpMiddleware.layerTracerDisabledForUrls(["/livez", "/readyz", "/metrics"]),
    traces === undefined ? Layer.empty : OtlpTracer.layer({
      ...traces,
      resource,
      exportInterval: traceInterval,
      maxBatchSize: traceBatch,
      shutdownTimeout
    }).pipe(Layer.provide([traces.serialization, client({ ...traces, signal: "traces", drop: true })])),
    metrics === undefined ? Layer.empty : OtlpMetrics.layer({
      ...metrics,
      resource,
      exportInterval: metricInterval,
      temporality: delta ? "delta" : "cumulative",
      shutdownTimeout
    }).pipe(Layer.provide([metrics.serialization, client({ ...metrics, signal: "metrics", drop: !delta })]))
  ).pipe(
    // The exporters would read some of the variables once more, and take a malformed one for a bug.
    Layer.provide([FetchHttpClient.layer, ConfigProvider.layer(ConfigProvider.fromUnknown({}))])
  )
})

const client = (options: Collector.Options) => Layer.effect(HttpClient.HttpClient, Collector.make(options))
