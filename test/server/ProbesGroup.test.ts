import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Metric, PubSub, Redacted } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { HttpApi, HttpApiBuilder, HttpApiMiddleware } from "effect/http-api"
import * as ChildProcess from "node:child_process"
import { createServer } from "node:http"
import { Probes, Refusals } from "../../src/Api.ts"
import * as Lifecycle from "../../src/Lifecycle.ts"
import * as Mount from "../../src/server/Mount.ts"
import * as ProbesGroup from "../../src/server/ProbesGroup.ts"
import * as Server from "../../src/server/Server.ts"
import type * as Views from "../../src/server/Views.ts"
import { Browse } from "../../src/storage/Browse.ts"
import * as TaskQueue from "../../src/TaskQueue.ts"
import * as Worker from "../../src/Worker.ts"
import * as FaultProxy from "../support/FaultProxy.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

const token = "a-token-that-nobody-guesses-0123456789"

class Api extends HttpApi.make("spindle").add(Probes).middleware(HttpApiMiddleware.ProblemDetails) {}

/** A server with the probes alone, beside a worker or without one. */
const serve = Effect.fnUntraced(function*(options: {
  readonly url: Redacted.Redacted
  readonly worker?: Harness.Launched
  readonly registry?: Metric.MetricRegistry
}) {
  const app = HttpApiBuilder.layer(Api).pipe(
    Layer.provide(ProbesGroup.layer),
    Layer.provide([Browse.layer, HttpApiMiddleware.layerProblemDetails(), Refusals.layer]),
    Layer.provide([
      PgClient.layer({ url: options.url, maxConnections: 2 }),
      options.worker === undefined ? Layer.empty : Layer.succeed(Worker.Worker)(options.worker)
    ]),
    Layer.provide(Layer.succeed(Metric.MetricRegistry)(options.registry ?? new Map()))
  )
  const context = yield* Layer.build(
    HttpRouter.serve(app, { disableListenLog: true, disableLogger: true }).pipe(
      Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0 }))
    )
  )
  const { address } = Context.get(context, HttpServer.HttpServer)
  const port = address._tag === "UnixPathAddress" ? 0 : address.port
  const get = (path: string) =>
    Effect.promise(async () => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`)
      return { status: response.status, type: response.headers.get("content-type"), text: await response.text() }
    })
  const probe = (path: string) =>
    Effect.map(get(path), ({ status: code, text }) => ({ ...JSON.parse(text) as Views.Health, code }))
  return { get, live: probe("/livez"), ready: probe("/readyz") }
})

const proxied = Effect.gen(function*() {
  const { url } = yield* TestDatabase
  const { hostname, port } = new URL(Redacted.value(url))
  const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
  return { proxy, url: proxy.url(url) }
})

const code = (wanted: number) => (answer: { readonly code: number }) => answer.code === wanted

describe("probes beside a worker", () => {
  it.live("are good while it works", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const worker = yield* Harness.launch(Harness.Tasks, Harness.script().handlers)
      const { live, ready } = yield* serve({ url, worker })
      // An event loop that was held up is a problem too, for a minute, and none of the worker's own.
      const well = ({ code, problems }: { readonly code: number; readonly problems: ReadonlyArray<string> }) =>
        code === 200 && problems.every((problem) => problem.startsWith("the event loop was blocked"))
      const answer = yield* Harness.eventually("readiness", ready, well)
      assert.strictEqual(answer.status, "ok")
      assert.isTrue(answer.loops.every(({ ok }) => ok))
      assert.isTrue(well(yield* live))
    }).pipe(Harness.onDatabase))

  for (const fault of ["refuse", "blackhole"] as const) {
    it.live(`the worker lives but is not ready while the database is away (${fault})`, () =>
      Effect.gen(function*() {
        const { proxy, url } = yield* proxied
        const worker = yield* Harness.launch(Harness.Tasks, Harness.script().handlers, {}, { url })
        const { live, ready } = yield* serve({ url, worker })
        yield* Harness.eventually("readiness", ready, code(200))
        const away = (on: boolean) =>
          fault === "blackhole" ? proxy.blackhole(on) : Effect.andThen(proxy.refuse(on), proxy.killAll)
        yield* away(true)
        yield* Harness.eventually(
          "its end",
          ready,
          ({ code, problems }) => code === 503 && /^the database cannot be reached since/m.test(problems.join("\n"))
        )
        assert.strictEqual((yield* live).code, 200)
        yield* away(false)
        yield* Harness.eventually("readiness again", ready, code(200))
      }).pipe(Harness.onDatabase), 60_000)
  }

  it.live("a worker whose loop died neither lives nor is ready", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const broken = new Proxy(yield* PubSub.sliding<Lifecycle.Event>(1), {
        get: () => {
          throw new Error("broken")
        }
      })
      const worker = yield* Harness.launch(Harness.Tasks, Harness.script().handlers, {}, {
        references: Layer.succeed(Lifecycle.Bus)(broken)
      })
      const { live, ready } = yield* serve({ url, worker })
      assert.strictEqual((yield* live).code, 200)
      yield* Harness.insert("plain")
      yield* Effect.flip(worker.failed)
      assert.deepInclude(yield* live, { code: 503, status: "failing" })
      assert.deepInclude(yield* ready, { code: 503, status: "failing" })
      assert.isTrue(Exit.isFailure(yield* Effect.exit(worker.stop)))
    }).pipe(Harness.onDatabase))

  it.live("a worker that shuts down lives but is not ready", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { shutdownGrace: "1 minute" })
      const { live, ready } = yield* serve({ url, worker })
      const { proceed } = yield* script.next(yield* Harness.insert("scripted"))
      yield* Harness.eventually("readiness", ready, code(200))
      const stopping = yield* Effect.forkChild(worker.stop)
      const { problems } = yield* Harness.eventually("its end", ready, code(503))
      assert.include(problems, "the worker is shutting down")
      assert.strictEqual((yield* live).code, 200)
      yield* proceed(Effect.succeed(null))
      yield* Fiber.join(stopping)
    }).pipe(Harness.onDatabase))
})

describe("probes where a token is set", () => {
  it.live("tell strangers the status alone", () =>
    Effect.gen(function*() {
      const { proxy, url } = yield* proxied
      yield* proxy.refuse(true)
      const server = yield* Server.listen({
        port: 0,
        host: "127.0.0.1",
        token: Redacted.make(token),
        readOnly: false,
        allowedHosts: []
      })
      const queue = TaskQueue.layer.pipe(Layer.provideMerge(PgClient.layer({ url, maxConnections: 2 })))
      const context = yield* Layer.build(Layer.mergeAll(queue, server.services))
      yield* Mount.make({ prefix: "", token: Redacted.make(token), readOnly: false, allowedHosts: [] }).pipe(
        Effect.flatMap(server.mount),
        Effect.provideContext(context)
      )
      const ready = (authorization = "") =>
        Effect.promise(async () => {
          const response = await fetch(`${server.url}readyz`, { headers: { authorization } })
          return { ...await response.json() as Views.Health, code: response.status }
        })
      const known = yield* ready(`Bearer ${token}`)
      assert.strictEqual(known.code, 503)
      assert.isNotEmpty(known.problems)
      const terse = { code: 503, status: "failing", problems: [], loops: [] }
      assert.deepStrictEqual<object>(yield* ready(), terse)
      assert.deepStrictEqual<object>(yield* ready("Bearer of-somebody-else"), terse)
    }).pipe(Harness.onDatabase))
})

describe("probes without a worker", () => {
  it.live("live always, and are ready while the database answers", () =>
    Effect.gen(function*() {
      const { proxy, url } = yield* proxied
      const { live, ready } = yield* serve({ url })
      assert.strictEqual((yield* ready).code, 200)
      yield* proxy.blackhole(true)
      const { problems } = yield* Harness.eventually("the 503", ready, code(503))
      assert.deepStrictEqual(problems, ["The database does not answer within 2 seconds"])
      assert.strictEqual((yield* live).code, 200)
      yield* proxy.blackhole(false)
      yield* Harness.eventually("readiness again", ready, code(200))
    }).pipe(Harness.onDatabase), 60_000)
})

const promtool = (text: string) => {
  const { error, status, stderr, stdout } = ChildProcess.spawnSync("promtool", ["check", "metrics"], { input: text })
  if (error !== undefined) throw error
  assert.strictEqual(status, 0, `${stdout}${stderr}`)
  assert.strictEqual(`${stdout}${stderr}`, "")
}

const samplesOf = (text: string) =>
  new Map(
    text.split("\n").filter((line) => line !== "" && !line.startsWith("#")).map((line) => {
      const space = line.lastIndexOf(" ")
      return [line.slice(0, space), Number(line.slice(space + 1))] as const
    })
  )

describe("metrics", () => {
  it.live("are what promtool accepts, and tell of tasks, loops, statements, queues and the process", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const registry: Metric.MetricRegistry = new Map()
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { id: "host \"a\"", concurrency: 7 }, {
        references: Layer.succeed(Metric.MetricRegistry)(registry)
      })
      const { get } = yield* serve({ url, worker, registry })
      const done = [yield* Harness.insert("plain"), yield* Harness.insert("plain", { queue: "a\nb\\\"c\"" })]
      for (const id of done) yield* Harness.awaitOver(id)
      const failed = yield* Harness.insert("scripted", { max_attempts: 1 })
      const first = yield* script.next(failed)
      yield* first.proceed(
        Effect.andThen(
          first.execution.emit({ _tag: "text_delta", text: "a" }),
          Effect.fail(new Harness.Refused({ why: "no" }))
        )
      )
      yield* Harness.awaitOver(failed)
      const cancelled = yield* Harness.insert("scripted")
      const second = yield* script.next(cancelled)
      yield* second.proceed(Effect.never)
      second.unwind.closeUnsafe()
      yield* Harness.cancel(cancelled)
      // it is looked at again while it unwinds
      yield* Deferred.await(second.ended)
      yield* Effect.sleep("400 millis")
      yield* second.unwind.open
      yield* Harness.awaitOver(cancelled)
      const running = yield* Harness.insert("scripted")
      const third = yield* script.next(running)
      const past = new Date(Date.now() - 60_000)
      yield* Harness.insert("unknown", { queue: "elsewhere", run_at: past, created_at: past })
      yield* Harness.eventually("the counts", worker.stats.snapshot, ({ counters }) => counters.cancelled === 1)

      const { text, type } = yield* get("/metrics")
      assert.match(type!, /^text\/plain; version=0\.0\.4/)
      promtool(text)
      const samples = samplesOf(text)
      const own = `worker="host \\"a\\""`
      const value = (name: string, labels = "") => samples.get(`${name}{${labels}${own}}`)
      assert.strictEqual(value("spindle_tasks_claimed_total"), 5)
      assert.strictEqual(value("spindle_tasks_running"), 1)
      assert.strictEqual(value("spindle_slots"), 7)
      const ended = (type: string, queue: string, outcome: string) =>
        value("spindle_attempts_ended_total", `type="${type}",queue="${queue}",outcome="${outcome}",`)
      assert.strictEqual(ended("plain", "default", "completed"), 1)
      assert.strictEqual(ended("plain", "a\\nb\\\\\\\"c\\\"", "completed"), 1)
      assert.strictEqual(ended("scripted", "default", "failed"), 1)
      assert.strictEqual(ended("scripted", "default", "cancelled"), 1)
      assert.strictEqual(ended("scripted", "default", "retried"), 0)
      assert.strictEqual(value("spindle_attempt_duration_seconds_count", "type=\"plain\","), 2)
      assert.strictEqual(value("spindle_task_wait_seconds_count", "queue=\"default\","), 4)
      assert.strictEqual(value("spindle_cancel_reaction_seconds_count"), 1)
      assert.isAtLeast(value("spindle_claim_duration_seconds_count")!, 5)
      assert.isAtLeast(value("spindle_write_batch_size_sum")!, 5)
      assert.strictEqual(value("spindle_events_written_total"), 1)
      assert.strictEqual(value("spindle_notifications_up"), 1)
      assert.strictEqual(value("spindle_leases_lost_total"), 0)
      assert.strictEqual(value("spindle_loop_up", "loop=\"claiming\","), 1)
      const turned = value("spindle_loop_last_turn_timestamp_seconds", "loop=\"claiming\",")!
      assert.isBelow(Math.abs(Date.now() / 1000 - turned), 30)
      assert.strictEqual(samples.get("spindle_database_up"), 1)
      assert.strictEqual(samples.get("spindle_queue_tasks{queue=\"elsewhere\",state=\"due\"}"), 1)
      assert.strictEqual(samples.get("spindle_queue_tasks{queue=\"default\",state=\"processing\"}"), 1)
      assert.isAtLeast(samples.get("spindle_queue_oldest_due_age_seconds{queue=\"elsewhere\"}")!, 60)
      assert.isAbove(samples.get("process_resident_memory_bytes")!, 1e6)
      assert.isBelow(Math.abs(Date.now() / 1000 - samples.get("process_start_time_seconds")!), 3600)
      yield* third.proceed(Effect.succeed(null))
    }).pipe(Harness.onDatabase))

  it.live("of several workers in a process do not mix, and go with their worker", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const registry: Metric.MetricRegistry = new Map()
      const references = Layer.succeed(Metric.MetricRegistry)(registry)
      const launch = () =>
        Harness.launch(Harness.Tasks, Harness.script().handlers, { id: "twin", notifications: "off" }, { references })
      const { get } = yield* serve({ url, registry })
      const one = yield* launch()
      const other = yield* launch()
      const ids = yield* Harness.insertMany("plain", 20)
      for (const id of ids) yield* Harness.awaitRow(id, Harness.isOver)
      const { text } = yield* get("/metrics")
      promtool(text)
      const claimed = (name: string) => samplesOf(text).get(`spindle_tasks_claimed_total{worker="${name}"}`)
      const counts = yield* Effect.forEach([one, other], ({ stats }) => stats.snapshot)
      assert.deepStrictEqual([claimed("twin"), claimed("twin-2")], counts.map(({ counters }) => counters.claimed))
      yield* one.stop
      const left = samplesOf((yield* get("/metrics")).text)
      assert.isFalse([...left.keys()].some((name) => name.includes("worker=\"twin\"")))
      assert.isTrue([...left.keys()].some((name) => name.includes("worker=\"twin-2\"")))
    }).pipe(Harness.onDatabase))

  it.live("are there while the database is away, and say so", () =>
    Effect.gen(function*() {
      const { proxy, url } = yield* proxied
      yield* proxy.refuse(true)
      const { get } = yield* serve({ url })
      const { status, text } = yield* get("/metrics")
      assert.strictEqual(status, 200)
      promtool(text)
      assert.strictEqual(samplesOf(text).get("spindle_database_up"), 0)
    }).pipe(Harness.onDatabase), 60_000)

  it.live("have the application's own beside them", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const registry: Metric.MetricRegistry = new Map()
      yield* Metric.update(Metric.counter("app_mails_total", { description: "Mails.", incremental: true }), 3).pipe(
        Effect.provideService(Metric.MetricRegistry, registry)
      )
      const { get } = yield* serve({ url, registry })
      assert.strictEqual(samplesOf((yield* get("/metrics")).text).get("app_mails_total"), 3)
    }).pipe(Harness.onDatabase))
})
