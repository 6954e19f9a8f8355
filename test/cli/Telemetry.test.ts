import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Context, Effect, Exit, Layer, Metric, Option, Redacted, Scope, Tracer } from "effect"
import { SqlClient } from "effect/sql"
import * as Net from "node:net"
import * as Telemetry from "../../src/cli/Telemetry.ts"
import * as TaskQueue from "../../src/TaskQueue.ts"
import * as Cli from "../support/Cli.ts"
import * as Collector from "../support/Collector.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

const json = { OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" }

const build = Effect.fnUntraced(function*(env: Readonly<Record<string, string>>) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const context = yield* Layer.buildWithScope(
    Telemetry.layer.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(env)))),
    scope
  )
  return {
    tracer: Option.filter(Option.some(Context.get(context, Tracer.Tracer)), (tracer) => tracer !== Tracer.nativeTracer),
    flush: Scope.close(scope, Exit.void)
  }
})

/** A worker, a producer and a collector; `flush` sends what is left, as at the end of the process. */
const traced = Effect.fnUntraced(function*(env: Readonly<Record<string, string>> = {}) {
  const collector = yield* Collector.make
  const { flush, tracer } = yield* build({
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_METRICS_EXPORTER: "none",
    ...json,
    ...env
  })
  const reference = Layer.succeed(Tracer.Tracer)(Option.getOrThrow(tracer))
  const lines: Array<Harness.LogLine> = []
  const script = Harness.script()
  const worker = yield* Harness.launch(Harness.Tasks, script.handlers, {}, {
    references: Layer.merge(reference, Harness.keepLogs(lines))
  })
  const queue = yield* makeQueue
  const produce = <A, E>(name: string, effect: Effect.Effect<A, E>) =>
    effect.pipe(Effect.withSpan(name), Effect.provide(reference))
  return { collector, flush, lines, produce, queue, script, worker }
})

const makeQueue = Effect.gen(function*() {
  const client = Layer.succeed(SqlClient.SqlClient)(yield* PgClient.PgClient)
  return Context.get(yield* Layer.build(Layer.provide(TaskQueue.layer, client)), TaskQueue.TaskQueue)
})

const named = (collector: Collector.Collector, name: string) => collector.spans.filter((span) => span.name === name)

const metadataOf = Effect.fnUntraced(function*(id: bigint) {
  const sql = yield* PgClient.PgClient
  const [row] = yield* sql<{ readonly metadata: any }>`select metadata from spindle.tasks where id = ${id}`
  return row!.metadata
})

describe("traces", () => {
  it.live("go from the producer through the attempt and its handler to the write of what it said", () =>
    Effect.gen(function*() {
      const { collector, flush, lines, produce, queue, script, worker } = yield* traced()
      const { id } = yield* produce("order placed", queue.enqueue(Harness.Scripted, undefined, { tag: "blue" }))
      const { execution, proceed } = yield* script.next(id)
      yield* proceed(
        Effect.logInfo("at work").pipe(
          Effect.andThen(execution.emit({ _tag: "text_delta", text: "a" })),
          Effect.andThen(Effect.sleep("100 millis")),
          Effect.as(1),
          Effect.withSpan("of the handler")
        )
      )
      yield* Harness.awaitOver(id)
      yield* worker.stop
      yield* flush

      const [root] = named(collector, "order placed")
      const [send] = named(collector, "TaskQueue.enqueue")
      const [attempt] = named(collector, "process scripted")
      const [own] = named(collector, "of the handler")
      const writes = named(collector, "write events and outcomes")
      assert.strictEqual(send!.parentSpanId, root!.spanId)
      assert.strictEqual(send!.kind, 4)
      assert.deepInclude(send!.attributes, {
        "messaging.system": "spindle",
        "messaging.operation.type": "send",
        "messaging.destination.name": "default"
      })
      assert.strictEqual(attempt!.parentSpanId, send!.spanId)
      assert.strictEqual(attempt!.kind, 5)
      assert.strictEqual(attempt!.status, 1)
      assert.deepInclude(attempt!.attributes, {
        "messaging.system": "spindle",
        "messaging.operation.type": "process",
        "messaging.destination.name": "default",
        "messaging.message.id": String(id),
        "messaging.client.id": worker.id,
        "spindle.task.type": "scripted",
        "spindle.task.attempt": 1,
        "spindle.task.tag": "blue",
        "spindle.task.outcome": "completed"
      })
      assert.strictEqual(own!.parentSpanId, attempt!.spanId)
      assert.isAtLeast(writes.length, 2)
      for (const write of writes) assert.strictEqual(write.parentSpanId, attempt!.spanId)
      assert.deepStrictEqual(
        new Set([send, attempt, own, ...writes].map((span) => span!.traceId)),
        new Set([root!.traceId])
      )
      assert.deepStrictEqual(yield* metadataOf(id), { traceparent: `00-${send!.traceId}-${send!.spanId}-01` })
      assert.deepInclude(lines.find(({ message }) => message === "at work")?.annotations, {
        taskId: String(id),
        taskType: "scripted",
        attempt: 1,
        tag: "blue",
        traceId: attempt!.traceId,
        spanId: attempt!.spanId
      })
      assert.deepInclude(attempt!.resource, { "service.name": "spindle" })
    }).pipe(Harness.onDatabase))

  it.live("hold errors, one span for each attempt, and nothing of the loops", () =>
    Effect.gen(function*() {
      const { collector, flush, produce, queue, script, worker } = yield* traced()
      const { id } = yield* produce("p", queue.enqueueRaw("scripted", {}, { maxAttempts: 2 }))
      for (let attempt = 1; attempt <= 2; attempt++) {
        const { proceed } = yield* script.next(id)
        yield* proceed(Effect.fail(new Harness.Refused({ why: "no" })))
      }
      yield* Harness.awaitOver(id)
      const plain = yield* Harness.insert("plain")
      yield* Harness.awaitOver(plain)
      yield* worker.stop
      yield* flush
      const attempts = named(collector, "process scripted")
      assert.deepStrictEqual(attempts.map(({ attributes }) => attributes["spindle.task.outcome"]), ["retry", "failed"])
      assert.lengthOf(new Set(attempts.map(({ traceId }) => traceId)), 1)
      for (const { attributes, exceptions, status } of attempts) {
        assert.strictEqual(status, 2)
        assert.strictEqual(attributes["error.type"], "Refused")
        assert.strictEqual(exceptions[0]!["exception.type"], "Refused")
      }
      const [alone] = named(collector, "process plain")
      assert.isUndefined(alone!.parentSpanId)
      // every root is a producer's, an attempt's without one, or a write's that is linked to several
      const roots = collector.spans.filter(({ parentSpanId }) => parentSpanId === undefined)
      assert.deepStrictEqual(
        roots.filter(({ links, name }) => !(name === "write events and outcomes" && links.length > 1)).map(({ name }) =>
          name
        ).toSorted(),
        ["p", "process plain"]
      )
    }).pipe(Harness.onDatabase))

  it.live("link a write to all attempts that it is of", () =>
    Effect.gen(function*() {
      const { collector, flush, produce, queue, worker } = yield* traced()
      const items = Array.from({ length: 40 }, (_, n) => ({ payload: { n } }))
      yield* produce("many", queue.enqueueMany(Harness.Plain, items))
      yield* Harness.awaitAllOver
      yield* worker.stop
      yield* flush
      const [send] = named(collector, "TaskQueue.enqueueMany")
      const attempts = named(collector, "process plain")
      assert.lengthOf(attempts, 40)
      assert.isTrue(attempts.every(({ parentSpanId }) => parentSpanId === send!.spanId))
      const writes = named(collector, "write events and outcomes")
      assert.isTrue(writes.some(({ links }) => links.length > 1))
      assert.deepStrictEqual(
        new Set(writes.flatMap(({ links, parentSpanId }) => links.length > 0 ? links : [parentSpanId!])),
        new Set(attempts.map(({ spanId }) => spanId))
      )
    }).pipe(Harness.onDatabase))

  it.live("follow a context that the producer gives, and honour that it is not sampled", () =>
    Effect.gen(function*() {
      const { collector, flush, produce, queue, worker } = yield* traced()
      const traceId = "0af7651916cd43dd8448eb211c80319c"
      const below = yield* queue.enqueue(Harness.Plain, {}).pipe(
        (enqueue) => produce("p", enqueue),
        Effect.withParentSpan(Tracer.externalSpan({ traceId, spanId: "b7ad6b7169203333", sampled: false }))
      )
      const { traceparent } = yield* metadataOf(below.id)
      assert.match(traceparent, new RegExp(`^00-${traceId}-[0-9a-f]{16}-00$`))
      const [given, unsampled, broken] = yield* produce(
        "p",
        Effect.forEach(
          [`00-${traceId}-b7ad6b7169203331-01`, `00-${traceId}-b7ad6b7169203332-00`, "nonsense"],
          (traceparent) => queue.enqueue(Harness.Plain, {}, { metadata: { traceparent, other: 1 } })
        )
      )
      yield* Harness.awaitAllOver
      yield* worker.stop
      yield* flush
      const attemptOf = (id: bigint) =>
        named(collector, "process plain").find(({ attributes }) => attributes["messaging.message.id"] === String(id))
      assert.deepInclude(attemptOf(given!.id), { traceId, parentSpanId: "b7ad6b7169203331" })
      assert.isUndefined(attemptOf(unsampled!.id))
      assert.isUndefined(attemptOf(below.id))
      assert.isUndefined(attemptOf(broken!.id)!.parentSpanId)
      assert.deepStrictEqual(yield* metadataOf(broken!.id), { traceparent: "nonsense", other: 1 })
    }).pipe(Harness.onDatabase))
})

describe("without a tracer", () => {
  it.live("nothing is stored in a task's metadata, but a context that came from outside", () =>
    Effect.gen(function*() {
      const queue = yield* makeQueue
      const spanned = yield* Effect.withSpan(queue.enqueue(Harness.Plain, {}), "local")
      assert.deepStrictEqual(yield* metadataOf(spanned.id), {})
      const off = yield* Effect.withSpan(queue.enqueue(Harness.Plain, {}), "off", {
        annotations: Context.make(Tracer.DisablePropagation, true)
      })
      assert.deepStrictEqual(yield* metadataOf(off.id), {})
      const span = Tracer.externalSpan({ traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" })
      const passed = yield* queue.enqueue(Harness.Plain, {}).pipe(Effect.withSpan("local"), Effect.withParentSpan(span))
      assert.deepStrictEqual(yield* metadataOf(passed.id), {
        traceparent: `00-${span.traceId}-${span.spanId}-01`
      })
    }).pipe(Harness.onDatabase))
})

describe("the variables", () => {
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9" }
  const url = "an http or https URL without user and password, such as http://127.0.0.1:4318"
  const pairs = "pairs such as key=value,other=value, percent-encoded"
  const millis = "a whole number of milliseconds, at least 1"

  /** What is built from them, and the warnings. */
  const read = Effect.fnUntraced(function*(env: Readonly<Record<string, string>>) {
    const lines: Array<Harness.LogLine> = []
    const built = yield* Effect.provide(build(env), Harness.keepLogs(lines))
    return { tracer: built.tracer, flush: built.flush, warnings: lines.map(({ annotations }) => annotations) }
  })

  // Each waits a second for a collector that is not there.
  const together = <const Case>(
    cases: ReadonlyArray<Case>,
    run: (given: Case) => Effect.Effect<void, never, Scope.Scope>
  ) => Effect.forEach(cases, (given) => Effect.scoped(run(given)), { concurrency: "unbounded", discard: true })

  it.live("do not stop it when they are malformed", () =>
    together(
      [
        ["OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", url, false],
        ["OTEL_EXPORTER_OTLP_ENDPOINT", "http://", url, false],
        ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "nowhere", url],
        ["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "ftp://nowhere", url],
        ["OTEL_RESOURCE_ATTRIBUTES", "a=%zz,b=1", pairs],
        ["OTEL_RESOURCE_ATTRIBUTES", "a", pairs],
        ["OTEL_EXPORTER_OTLP_PROTOCOL", "http/xml", "\"http/protobuf\" or \"http/json\" or \"grpc\""],
        ["OTEL_EXPORTER_OTLP_COMPRESSION", "zip", "\"gzip\" or \"none\""],
        ["OTEL_EXPORTER_OTLP_TIMEOUT", "10s", millis],
        ["OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "0", millis],
        ["OTEL_SDK_DISABLED", "1", "\"true\" or \"false\""],
        ["OTEL_SDK_DISABLED", "yes", "\"true\" or \"false\""],
        ["OTEL_TRACES_EXPORTER", "nowhere", "\"otlp\" or \"none\""],
        ["OTEL_METRICS_EXPORTER", "otlp, nowhere", "\"otlp\" or \"none\""],
        ["OTEL_BSP_SCHEDULE_DELAY", "5s", millis],
        ["OTEL_BSP_SCHEDULE_DELAY", "-1", millis],
        ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1e99", "a whole number from 1 to 10000"],
        ["OTEL_METRIC_EXPORT_INTERVAL", "NaN", millis],
        [
          "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
          "sometimes",
          "\"cumulative\" or \"delta\" or \"lowmemory\""
        ]
      ] as const,
      ([variable, given, allowed, tracer = true]) =>
        Effect.map(read({ ...endpoint, [variable]: given }), (built) => {
          assert.deepStrictEqual(built.warnings, [{ variable, given, allowed }])
          assert.strictEqual(Option.isSome(built.tracer), tracer, `${variable}=${given}`)
        })
    ))

  it.live("are taken as they are usually written", () =>
    together(
      [
        ["OTEL_TRACES_EXPORTER", "OTLP"],
        ["OTEL_TRACES_EXPORTER", " otlp , none,"],
        ["OTEL_TRACES_EXPORTER", ","],
        ["OTEL_SDK_DISABLED", "FALSE"],
        ["OTEL_EXPORTER_OTLP_PROTOCOL", "HTTP/JSON"],
        ["OTEL_EXPORTER_OTLP_COMPRESSION", "GZip"],
        ["OTEL_BSP_SCHEDULE_DELAY", " 5000 "],
        ["OTEL_EXPORTER_OTLP_HEADERS", "a=b,,"],
        ["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "LowMemory"],
        ["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Delta"]
      ] as const,
      ([variable, given]) =>
        Effect.map(read({ ...endpoint, [variable]: given }), ({ tracer, warnings }) => {
          assert.deepStrictEqual(warnings, [], `${variable}=${given}`)
          assert.isTrue(Option.isSome(tracer))
        })
    ))

  it.live("are not told with their secrets", () =>
    Effect.gen(function*() {
      const { tracer, warnings } = yield* read({
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://me:secret@collector.example/x?key=secret",
        ...endpoint,
        OTEL_EXPORTER_OTLP_HEADERS: "secret"
      })
      assert.isTrue(Option.isSome(tracer))
      assert.deepStrictEqual(warnings, [
        { variable: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", given: "https://…@collector.example/x?…", allowed: url },
        { variable: "OTEL_EXPORTER_OTLP_HEADERS", allowed: pairs }
      ])
    }))

  it.live("count as not set where they are malformed, and so does what is wrong in headers", () =>
    Effect.gen(function*() {
      const collector = yield* Collector.make
      const { flush, tracer, warnings } = yield* read({
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "nowhere",
        OTEL_EXPORTER_OTLP_TRACES_HEADERS: "wrong",
        OTEL_EXPORTER_OTLP_HEADERS: "x-key=right,wrong,sp%20ace=1,x-line=a%0Ab,x-zz=%zz,x-snow=%E2%98%83",
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "carrier pigeon",
        OTEL_EXPORTER_OTLP_PROTOCOL: "HTTP/JSON",
        OTEL_RESOURCE_ATTRIBUTES: "deployment.environment=test,wrong",
        OTEL_METRICS_EXPORTER: "none"
      })
      assert.deepStrictEqual(warnings.map(({ variable }) => variable), [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_RESOURCE_ATTRIBUTES"
      ])
      yield* Effect.void.pipe(
        Effect.withSpan("one"),
        Effect.provideService(Tracer.Tracer, Option.getOrThrow(tracer))
      )
      yield* flush
      assert.strictEqual(collector.headers[0]!["x-key"], "right")
      assert.notInclude(Object.keys(collector.headers[0]!).join(), "x-line")
      assert.notProperty(collector.spans[0]!.resource, "deployment.environment")
    }))

  it.live("are not read where nothing is exported", () =>
    Effect.gen(function*() {
      const malformed = {
        OTEL_EXPORTER_OTLP_HEADERS: "no pair",
        OTEL_BSP_SCHEDULE_DELAY: "5s",
        OTEL_TRACES_EXPORTER: "x"
      }
      const off = [malformed, { ...malformed, OTEL_EXPORTER_OTLP_ENDPOINT: "nowhere", OTEL_SDK_DISABLED: "true" }]
      for (const env of off) assert.isTrue(Option.isNone((yield* build(env)).tracer))
    }))

  it.live("of other exporters and protocols stop nothing, and are told of once", () =>
    together(
      [
        [{ OTEL_TRACES_EXPORTER: "console" }, false, "traces console"],
        [{ OTEL_METRICS_EXPORTER: "prometheus" }, true, "metrics prometheus"],
        [{ OTEL_TRACES_EXPORTER: "otlp,console" }, true, "traces console"],
        [{ OTEL_TRACES_EXPORTER: "Zipkin, Console" }, false, "traces zipkin, traces console"],
        [{ OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }, false, "traces grpc, metrics grpc"],
        [{ OTEL_EXPORTER_OTLP_PROTOCOL: "grpc", OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/json" }, true, "metrics grpc"]
      ] as const,
      ([env, exported, notExported]) =>
        Effect.map(read({ ...endpoint, ...env }), ({ tracer, warnings }) => {
          assert.strictEqual(Option.isSome(tracer), exported)
          assert.deepStrictEqual(warnings, [{ notExported }])
        })
    ))

  it.live("switch it off", () =>
    Effect.gen(function*() {
      for (
        const env of [
          {},
          { ...endpoint, OTEL_SDK_DISABLED: "true" },
          { ...endpoint, OTEL_SDK_DISABLED: "True" },
          { ...endpoint, OTEL_TRACES_EXPORTER: "NONE", OTEL_METRICS_EXPORTER: "none" },
          { ...endpoint, OTEL_TRACES_EXPORTER: "none", OTEL_METRICS_EXPORTER: "none" }
        ]
      ) assert.isTrue(Option.isNone((yield* build(env as Readonly<Record<string, string>>)).tracer))
      assert.isTrue(Option.isSome((yield* build(endpoint)).tracer))
    }))

  it.live("name the service, its attributes and the headers, and send metrics", () =>
    Effect.gen(function*() {
      const collector = yield* Collector.make
      const { flush, tracer } = yield* build({
        OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.url}/`,
        OTEL_EXPORTER_OTLP_HEADERS: "x-key=a%20secret",
        OTEL_SERVICE_NAME: "mailer",
        OTEL_RESOURCE_ATTRIBUTES: "deployment.environment=test,service.name=other",
        ...json
      })
      yield* Metric.update(Metric.counter("app_mails_total", { incremental: true }), 1)
      yield* Effect.void.pipe(
        Effect.withSpan("one"),
        Effect.provideService(Tracer.Tracer, Option.getOrThrow(tracer))
      )
      yield* flush
      assert.deepInclude(collector.spans[0]!.resource, { "service.name": "mailer", "deployment.environment": "test" })
      assert.strictEqual(collector.headers[0]!["x-key"], "a secret")
      assert.isTrue(collector.metrics.has("app_mails_total"))
    }))
})

describe("a service with a collector", () => {
  it.live(
    "sends what it did before it exits, and no trace of those who look whether it lives",
    () =>
      Effect.gen(function*() {
        const collector = yield* Collector.make
        const { url } = yield* TestDatabase
        const service = yield* Cli.spawn(
          {
            DATABASE_URL: Redacted.value(url),
            OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
            OTEL_METRIC_EXPORT_INTERVAL: "200",
            WORKER_HTTP_PORT: "0",
            ...json
          },
          ["start"]
        )
        yield* service.says("address=http")
        const [, address] = /address=(http:\S+)/.exec(service.output().stderr)!
        const get = (path: string) => Effect.promise(() => fetch(`${address}${path}`).then(({ status }) => status))
        for (const path of ["livez", "readyz", "metrics", "api/types"]) assert.strictEqual(yield* get(path), 200, path)
        const id = yield* Harness.insert("demo:sleep", { payload: "{\"ms\": 50}" })
        yield* Harness.awaitRow(id, Harness.isOver)
        yield* Harness.eventually(
          "the metrics",
          Effect.sync(() => collector.metrics),
          (metrics) => metrics.has("spindle_tasks_claimed_total") && metrics.has("spindle_attempt_duration_seconds")
        )
        yield* service.signal("SIGTERM")
        assert.strictEqual(yield* service.ended, 0)
        assert.lengthOf(named(collector, "process demo:sleep"), 1)
        const routes = collector.spans.map(({ attributes }) => attributes["url.path"]).filter((path) =>
          path !== undefined
        )
        assert.deepStrictEqual(routes, ["/api/types"])
      }).pipe(Harness.onDatabase),
    60_000
  )

  it.live("is not disturbed by one that does not answer", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const service = yield* Cli.spawn(
        {
          DATABASE_URL: Redacted.value(url),
          OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9",
          OTEL_BSP_SCHEDULE_DELAY: "50",
          WORKER_HTTP_PORT: "off"
        },
        ["start"]
      )
      yield* service.says("worker started")
      const id = yield* Harness.insert("demo:sleep", { payload: "{\"ms\": 50}" })
      yield* Harness.awaitRow(id, Harness.isOver)
      yield* service.says("the collector of traces and metrics does not take them")
      yield* service.signal("SIGTERM")
      assert.strictEqual(yield* service.ended, 0)
    }).pipe(Harness.onDatabase), 60_000)

  it.live("sends it one request at a time, however many spans there are", () =>
    Effect.gen(function*() {
      const collector = yield* Collector.make
      const { flush, tracer } = yield* build({
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
        OTEL_METRICS_EXPORTER: "none",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "10",
        ...json
      })
      yield* Effect.forEach(Array.from({ length: 200 }), () => Effect.withSpan(Effect.void, "one"), { discard: true })
        .pipe(
          Effect.provideService(Tracer.Tracer, Option.getOrThrow(tracer))
        )
      yield* flush
      assert.lengthOf(collector.spans, 200)
      assert.lengthOf(collector.headers, 20)
      assert.strictEqual(collector.mostOpen(), 1)
    }))

  it.live("ends in time beside one that takes connections and never answers", () =>
    Effect.gen(function*() {
      const silent = Net.createServer()
      yield* Effect.acquireRelease(
        Effect.callback<void>((resume) => {
          silent.listen(0, "127.0.0.1", () => resume(Effect.void))
        }),
        () => Effect.sync(() => void silent.close())
      )
      const { url } = yield* TestDatabase
      const service = yield* Cli.spawn(
        {
          DATABASE_URL: Redacted.value(url),
          OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(silent.address() as Net.AddressInfo).port}`,
          WORKER_SHUTDOWN_GRACE: "0",
          WORKER_HTTP_PORT: "off"
        },
        ["start"]
      )
      yield* service.says("worker started")
      const id = yield* Harness.insert("demo:sleep", { payload: "{\"ms\": 50}" })
      yield* Harness.awaitRow(id, Harness.isOver)
      yield* service.signal("SIGTERM")
      assert.strictEqual(yield* service.ended, 0)
    }).pipe(Harness.onDatabase), 60_000)

  it.live("starts with malformed variables, and says so", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const service = yield* Cli.spawn(
        {
          DATABASE_URL: Redacted.value(url),
          OTEL_EXPORTER_OTLP_ENDPOINT: "collector",
          OTEL_SDK_DISABLED: "1",
          WORKER_HTTP_PORT: "off"
        },
        ["start"]
      )
      yield* service.says("worker started")
      yield* service.says("variable=OTEL_EXPORTER_OTLP_ENDPOINT given=collector")
      yield* service.says("variable=OTEL_SDK_DISABLED given=1")
      yield* service.signal("SIGTERM")
      assert.strictEqual(yield* service.ended, 0)
    }).pipe(Harness.onDatabase))
})
