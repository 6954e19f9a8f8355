import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Array, Effect, Fiber, Layer, Queue, Redacted } from "effect"
import * as ChildProcess from "node:child_process"
import * as TaskQueue from "../../src/TaskQueue.ts"
import * as FaultProxy from "../support/FaultProxy.ts"
import * as Client from "../support/SseClient.ts"
import * as Server from "../support/SseServer.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"
import * as WorkerProcess from "../support/WorkerProcess.ts"

const options = { ...Harness.quick, lease: 5000, concurrency: 50 }

const withQueue = TaskQueue.layer.pipe(Layer.provideMerge(TestDatabase.layerSql()))

const path = (id: bigint) => `/api/tasks/${id}/events`

const stored = (id: bigint) =>
  Effect.map(
    Harness.eventsOf(id),
    (events) => events.map(({ data, epoch, seq, type }) => ({ id: `${epoch}-${seq}`, event: type, data }))
  )

describe("a stream of a task whose worker is killed", () => {
  it.live("goes on with the worker that takes over, also for a client that comes back", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* WorkerProcess.createExecutions
      const { port } = yield* Server.start()
      const doomed = yield* WorkerProcess.start(options)
      const ids = yield* Effect.forEach(
        Array.range(1, 10),
        () => Harness.insert("sleep", { payload: "{\"millis\": 60000}" })
      )
      const started = yield* Queue.unbounded<void>()
      const stayed = yield* Effect.forEach(ids, (id) => Client.open(port, path(id)))
      const returning = yield* Effect.forEach(ids, (id) =>
        Effect.forkScoped(
          Client.follow(
            port,
            path(id),
            (event, response) =>
              Effect.andThen(response.disconnect, event.id === "1-1" ? Queue.offer(started, undefined) : Effect.void)
          )
        ))
      yield* Queue.takeN(started, ids.length)
      yield* doomed.signal("SIGKILL")
      yield* doomed.exited
      yield* sql`update spindle.tasks set payload = '{"millis": 300}'`
      const heir = yield* WorkerProcess.start(options)
      for (const [n, id] of ids.entries()) {
        const told = yield* Fiber.join(returning[n]!)
        assert.deepStrictEqual(told.map(({ event, id }) => `${id} ${event}`), [
          "1-1 text_delta",
          "2-1 released",
          "3-1 text_delta",
          "3-2 text_delta",
          "3-3 done"
        ])
        assert.deepStrictEqual(told, yield* stored(id))
        assert.strictEqual(yield* stayed[n]!.ended, "end")
        assert.deepStrictEqual(yield* Queue.clear(stayed[n]!.events), [...told])
        assert.strictEqual((yield* Harness.rowOf(id)).result, heir.workerId)
      }
    }).pipe(Effect.scoped, Effect.provide(withQueue)), 60_000)
})

describe("a stream while the database is away", () => {
  for (const fault of ["refuse", "blackhole"] as const) {
    it.live(`stays open and goes on (${fault})`, () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const { url } = yield* TestDatabase
        const { hostname, port } = new URL(Redacted.value(url))
        const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
        const far = yield* Layer.build(
          Layer.fresh(TaskQueue.layer).pipe(Layer.provide(PgClient.layer({ url: proxy.url(url) })))
        )
        const server = yield* Effect.provideContext(Server.start(), far)
        const [id] = (yield* sql<{ readonly id: bigint }>`
          insert into spindle.tasks (type, status, epoch, locked_by) values ('story', 'processing', 1, 'w')
          returning id`).map(({ id }) => id) as [bigint]
        const emit = (seq: number, type: string) =>
          sql`insert into spindle.task_events (task_id, epoch, seq, type, data) values (${id}, 1, ${seq}, ${type}, '{}')`
        const response = yield* Client.open(server.port, path(id))
        yield* emit(1, "text_delta")
        assert.strictEqual((yield* Queue.take(response.events)).id, "1-1")
        yield* fault === "blackhole" ? proxy.blackhole(true) : Effect.andThen(proxy.refuse(true), proxy.killAll)
        yield* emit(2, "text_delta")
        yield* Effect.sleep("1500 millis")
        assert.strictEqual(yield* Queue.size(response.events), 0)
        if (fault === "refuse") {
          const refused = yield* Client.open(server.port, path(id))
          assert.strictEqual(refused.status, 503)
        }
        yield* fault === "blackhole" ? proxy.blackhole(false) : proxy.refuse(false)
        assert.strictEqual((yield* Queue.take(response.events)).id, "1-2")
        yield* sql`update spindle.tasks set status = 'completed', locked_by = null where id = ${id}`
        assert.strictEqual((yield* Queue.take(response.events)).id, "1-3")
        assert.strictEqual(yield* response.ended, "end")
      }).pipe(Effect.scoped, Effect.provide(withQueue)), 60_000)
  }
})

const curl = ChildProcess.spawnSync("curl", ["--version"]).status === 0

/** `curl -N`, or where it is not installed what does the same. */
const print = (url: string) =>
  curl
    ? ChildProcess.spawn("curl", ["-sN", url])
    : ChildProcess.spawn(process.execPath, [
      "--eval",
      `require("node:http").get(${JSON.stringify(url)}, (response) => response.pipe(process.stdout))`
    ])

describe(curl ? "curl -N" : "a client like curl -N", () => {
  it.live("prints a task's events as they come", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const { port } = yield* Server.start()
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers)
      const id = yield* Harness.insert("scripted")
      const chunks = yield* Queue.unbounded<string>()
      const child = yield* Effect.acquireRelease(
        Effect.sync(() => print(`http://127.0.0.1:${port}${path(id)}`)),
        (child) =>
          Effect.sync(() => {
            child.kill("SIGKILL")
          })
      )
      let output = ""
      child.stdout.on("data", (chunk: Buffer) => {
        output += String(chunk)
        Queue.offerUnsafe(chunks, output)
      })
      const has = (text: string) => Effect.repeat(Queue.take(chunks), { until: (output) => output.includes(text) })
      yield* has(":\n\n")
      const { execution, proceed } = yield* script.next(id)
      yield* execution.emit({ _tag: "text_delta", text: "Hello" })
      yield* has("id: 1-1\nevent: text_delta\ndata: {\"text\":\"Hello\"}\n\n")
      const exited = yield* Effect.forkScoped(
        Effect.callback<number | null>((resume) => {
          child.once("close", (code) => resume(Effect.succeed(code)))
        })
      )
      yield* proceed(Effect.succeed(1))
      assert.strictEqual(yield* Fiber.join(exited), 0)
      assert.include(output, "id: 1-2\nevent: done\n")
      assert.lengthOf(yield* sql`select from spindle.tasks where status = 'completed'`, 1)
    }).pipe(Effect.scoped, Effect.provide(withQueue)))
})
