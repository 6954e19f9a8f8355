import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Validator } from "@seriousme/openapi-schema-validator"
import { Context, Effect, Fiber, Layer, Option, Schema, Stream } from "effect"
import { OpenApi } from "effect/http-api"
import { Api } from "../../src/Api.ts"
import * as HandlerRegistry from "../../src/HandlerRegistry.ts"
import { cap } from "../../src/storage/TaskPages.ts"
import * as Task from "../../src/Task.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"
import * as HttpServer from "../support/HttpServer.ts"
import * as Harness from "../support/WorkerHarness.ts"

describe("the overview", () => {
  it.live("shows this worker, and the queues over all of them", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers)
      const server = yield* HttpServer.serve({
        worker,
        registry: HandlerRegistry.HandlerRegistry.of({
          types: ["scripted", "plain"],
          get: () => Option.none()
        })
      })
      const running = yield* Harness.insert("scripted", { queue: "q1" })
      const attempt = yield* script.next(running)
      const failed = yield* Harness.insert("scripted", { queue: "q2", max_attempts: 1 })
      yield* (yield* script.next(failed)).proceed(Effect.fail(new Harness.Refused({ why: "no" })))
      yield* Harness.awaitOver(failed)
      const later = new Date(Date.now() + 3_600_000)
      yield* Harness.insert("nobody", { queue: "q3", priority: 2 })
      yield* Harness.insert("nobody", { queue: "q3" })
      yield* Harness.insert("nowhere", { queue: "q3", run_at: later })
      yield* Harness.insert("elsewhere", {
        queue: "q1",
        status: "processing",
        locked_by: "other",
        lease_expires_at: later
      })
      const overview = yield* Harness.eventually(
        "the end of the failed task in the statistics",
        server.overview.get(),
        ({ counts }) => counts.failed === 1
      )
      assert.strictEqual(overview.id, worker.id)
      assert.strictEqual(overview.pid, process.pid)
      assert.match(overview.version, /^\d+\.\d+\.\d+/)
      assert.deepInclude(overview.counts, { claimed: 2, completed: 0, failed: 1 })
      assert.deepStrictEqual(overview.running.map(({ attempt, id, queue, type }) => [id, type, queue, attempt]), [
        [running as Task.TaskId, "scripted", "q1", 1]
      ])
      assert.deepStrictEqual(overview.recent.map(({ error, id, status }) => [id, status, error?.tag]), [
        [failed as Task.TaskId, "failed", "Refused"]
      ])
      const exactly = (count: number) => ({ count, capped: false })
      assert.deepStrictEqual(overview.depth, {
        queued: exactly(3),
        processing: exactly(2),
        completed: exactly(0),
        failed: exactly(1),
        cancelled: exactly(0)
      })
      assert.deepStrictEqual(
        overview.queues.map(({ due, name, processing, scheduled }) => [name, due, scheduled, processing]),
        [
          ["q1", exactly(0), exactly(0), exactly(2)],
          ["q2", exactly(0), exactly(0), exactly(0)],
          ["q3", exactly(2), exactly(1), exactly(0)]
        ]
      )
      assert.strictEqual(overview.queues[1]!.endedLastMinute.failed, 1)
      assert.isAtLeast(overview.oldestQueuedAgeMs!, 0)
      assert.strictEqual(overview.oldestQueuedAgeMs, overview.queues[2]!.oldestDueAgeMs)
      assert.deepStrictEqual(overview.unhandledTypes, ["nobody"])
      assert.deepStrictEqual((yield* server.overview.queues()).map(({ name }) => name), ["q1", "q2", "q3"])
      assert.isAtLeast((yield* server.overview.series()).buckets.length, 1)
      yield* attempt.proceed(Effect.succeed(null))
    }).pipe(Harness.onDatabase))

  it.live("of a process without a worker shows the tables", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve()
      yield* Harness.insert("plain")
      const { counts, depth, id, recent, unhandledTypes } = yield* server.overview.get()
      assert.deepStrictEqual({ id, claimed: counts.claimed, recent, unhandledTypes }, {
        id: null,
        claimed: 0,
        recent: [],
        unhandledTypes: []
      })
      assert.strictEqual(depth.queued.count, 1)
      assert.deepStrictEqual((yield* server.overview.series()).buckets, [])
      assert.deepStrictEqual(yield* server.overview.types(), [])
    }).pipe(Harness.onDatabase))

  it.live("streams what happens in this process", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve()
      const stream = yield* server.overview.stream()
      const first = yield* stream.pipe(Stream.take(1), Stream.runCollect, Effect.forkScoped)
      const { id } = yield* server.tasks.enqueue({ payload: { type: "plain" } })
      const [event] = yield* Fiber.join(first)
      assert.deepInclude(event!.data, { id, type: "plain", queue: "default" })
    }).pipe(Harness.onDatabase))

  it.live("caps its counts and says so, of every status, type and queue", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const server = yield* HttpServer.serve()
      yield* sql`alter table spindle.tasks disable trigger user`
      yield* sql`insert into spindle.tasks (type, queue, status)
                 select 'plain', 'q', 'completed' from generate_series(1, ${cap + 500}::int)`
      yield* sql`insert into spindle.tasks (type, queue, status)
                 select 'plain', 'q', status from generate_series(1, ${cap + 1}::int),
                        unnest(array['failed', 'cancelled']) status`
      yield* sql`insert into spindle.tasks (type, queue, run_at)
                 select 'plain', 'q' || n % 2, now() + n % 3 * interval '1 day'
                   from generate_series(1, 50000) n`
      yield* sql`insert into spindle.tasks (type, queue) select 't' || n, 'few' from generate_series(1, 3) n`
      const capped = { count: cap, capped: true }
      const { depth, queues } = yield* server.overview.get()
      assert.deepStrictEqual(depth, {
        queued: capped,
        processing: { count: 0, capped: false },
        completed: capped,
        failed: capped,
        cancelled: capped
      })
      assert.deepStrictEqual(queues.map(({ due, name, scheduled }) => [name, due, scheduled]), [
        ["few", { count: 3, capped: false }, { count: 0, capped: false }],
        ["q0", { count: 8333, capped: false }, capped],
        ["q1", { count: 8333, capped: false }, capped]
      ])
      assert.deepStrictEqual((yield* server.tasks.list({ query: { type: "plain" } })).total, capped)
      assert.deepStrictEqual((yield* server.tasks.list({ query: { status: "queued", type: "t2" } })).total, {
        count: 1,
        capped: false
      })
    }).pipe(Harness.onDatabase), 60_000)
})

describe("very many types", () => {
  it.live("are not all walked, which the counts say", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const server = yield* HttpServer.serve()
      yield* sql`insert into spindle.tasks (type) select 'type' || n from generate_series(1, 1200) n`
      const [queue] = yield* server.overview.queues()
      assert.deepStrictEqual(queue?.due, { count: 1000, capped: true })
      assert.isTrue(queue?.scheduled.capped)
      yield* sql`delete from spindle.tasks where id > 1000`
      const [exact] = yield* server.overview.queues()
      assert.deepStrictEqual(exact?.due, { count: 1000, capped: false })
    }).pipe(Harness.onDatabase))
})

class Tree extends Schema.Class<Tree>("Tree")({
  name: Schema.String,
  children: Schema.Array(Schema.suspend((): Schema.Codec<any> => Tree))
}) {}
class Grow
  extends Task.make("grow", { payload: { tree: Tree, at: Schema.Date }, queue: "garden", timeout: "1 minute" })
{}
class Rest extends Task.make("rest", { maxAttempts: 1 }) {}

describe("the definition", () => {
  it.live("of a type comes with the schema of its stored payload", () =>
    Effect.gen(function*() {
      const group = TaskGroup.make(Rest, Grow)
      const context = yield* Layer.build(
        HandlerRegistry.layer(group).pipe(
          Layer.provide(group.toLayer({ grow: () => Effect.void, rest: () => Effect.void }))
        )
      )
      const server = yield* HttpServer.serve({ registry: Context.get(context, HandlerRegistry.HandlerRegistry) })
      const [grow, rest] = yield* server.overview.types()
      const $schema = "https://json-schema.org/draft/2020-12/schema"
      assert.deepStrictEqual(rest, {
        type: "rest",
        queue: "default",
        priority: 0,
        maxAttempts: 1,
        timeoutMs: null,
        payload: { $schema, type: "object" }
      })
      assert.deepInclude(grow, { type: "grow", queue: "garden", maxAttempts: 3, timeoutMs: 60_000 })
      const payload = grow!.payload as any
      assert.strictEqual(payload.$schema, $schema)
      assert.strictEqual(payload.properties.at.type, "string")
      const name = payload.properties.tree.$ref.replace("#/$defs/", "")
      assert.strictEqual(payload.$defs[name].properties.children.items.$ref, payload.properties.tree.$ref)
    }).pipe(Harness.onDatabase))

  it.effect("of the API is OpenAPI", () =>
    Effect.gen(function*() {
      const document = JSON.parse(JSON.stringify(OpenApi.fromApi(Api)))
      const { errors, valid } = yield* Effect.promise(() => new Validator().validate(document))
      assert.isTrue(valid, JSON.stringify(errors))
      const summaries = new Set<string>()
      for (const [path, operations] of Object.entries<Record<string, any>>(document.paths)) {
        for (const { responses, security, summary } of Object.values(operations)) {
          assert.containsAllKeys(responses, ["401", "403", "413", "415", "429", "503"], path)
          assert.match(summary, /^[A-Z].+[^.]$/, path)
          summaries.add(summary)
          const open = ["/api/login", "/livez", "/readyz"].includes(path)
          assert.deepStrictEqual(security, open ? [] : [{ token: [] }], path)
        }
      }
      assert.isAtLeast(summaries.size, 19)
      assert.deepInclude(document.components.securitySchemes.token, { type: "http", scheme: "bearer" })
      assert.hasAllKeys(document.paths["/api/tasks"], ["get", "post"])
      assert.hasAnyKeys(document.paths["/api/tasks"].post.responses, ["200", "201"])
      assert.property(document.paths["/api/tasks/{id}"].get.responses["404"].content, "application/problem+json")
    }))
})
