import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Metric, PubSub, References, Stream } from "effect"
import * as Lifecycle from "../../src/Lifecycle.ts"
import * as Task from "../../src/Task.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"
import * as Harness from "../support/WorkerHarness.ts"

describe("what a worker tells", () => {
  it.live("of every attempt: lifecycle events and counters", () =>
    Effect.gen(function*() {
      const bus = yield* PubSub.sliding<Lifecycle.Event>(1024)
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { shutdownGrace: 0 }, {
        references: Layer.succeed(Lifecycle.Bus)(bus)
      })
      const told: Array<Lifecycle.Event> = []
      yield* Effect.forkScoped(Stream.runForEach(worker.lifecycle, (event) => Effect.sync(() => told.push(event))))
      const of = (id: bigint) => told.filter(({ task }) => task.id === id)

      const completed = yield* Harness.insert("plain", { payload: "{\"n\": 3}", tag: "t" })
      yield* Harness.awaitOver(completed)
      const retried = yield* Harness.insert("scripted", { max_attempts: 2 })
      for (let attempt = 1; attempt <= 2; attempt++) {
        const { proceed } = yield* script.next(retried)
        yield* proceed(Effect.fail(new Harness.Refused({ why: "no" })))
      }
      yield* Harness.awaitOver(retried)
      const cancelled = yield* Harness.insert("scripted")
      const unwinding = yield* script.next(cancelled)
      yield* unwinding.proceed(Effect.never)
      yield* Harness.cancel(cancelled)
      yield* Harness.awaitOver(cancelled)
      const snoozed = yield* Harness.insert("scripted")
      yield* Effect.flatMap(script.next(snoozed), ({ proceed }) =>
        proceed(Effect.fail(new Task.Snooze({ delay: "1 hour" }))))
      yield* Harness.awaitRow(snoozed, ({ attempts, status }) =>
        status === "queued" && attempts === 0)
      const running = yield* Harness.insert("scripted")
      const { execution, proceed } = yield* script.next(running)
      yield* proceed(Effect.never)

      const { counters, recent, running: now } = yield* Harness.eventually(
        "the last event",
        worker.stats.snapshot,
        ({ counters }) => counters.released === 1 && told.length === 11
      )
      assert.deepStrictEqual(counters, { claimed: 6, completed: 1, failed: 1, cancelled: 1, retried: 1, released: 1 })
      assert.deepStrictEqual(now.map(({ attempt, task }) => [task.id, attempt]), [[running, 1]])
      assert.strictEqual(execution.task.id, running)
      assert.strictEqual(yield* worker.running, 1)
      assert.deepStrictEqual(recent.map(({ status, task }) => [task.id, status]), [
        [snoozed, "released"],
        [cancelled, "cancelled"],
        [retried, "failed"],
        [retried, "retried"],
        [completed, "completed"]
      ])
      assert.deepStrictEqual(of(completed).map(({ _tag }) => _tag), ["Started", "Completed"])
      assert.deepInclude(of(completed)[1], { result: 3 })
      assert.strictEqual(of(completed)[1]!.task.tag, "t")
      assert.deepStrictEqual(of(retried).map(({ _tag }) => _tag), ["Started", "Failed", "Started", "Failed"])
      assert.deepStrictEqual(
        of(retried).flatMap((event) => event._tag === "Failed" ? [[event.error.tag, event.willRetry]] : []),
        [["Refused", true], ["Refused", false]]
      )
      assert.deepStrictEqual(of(cancelled).map(({ _tag }) => _tag), ["Started", "Cancelled"])
      assert.deepStrictEqual(of(snoozed).map(({ _tag }) => _tag), ["Started", "Released"])
    }).pipe(Harness.onDatabase))

  it.live("of an attempt only when the one before it is told of, though it can start sooner", () =>
    Effect.gen(function*() {
      class Flaky extends Task.make("flaky", { retry: { backoff: { _tag: "Fixed", delay: 0 } } }) {}
      class Group extends TaskGroup.make(Flaky) {}
      const told = new Map<bigint, Array<string>>()
      const bus = yield* PubSub.sliding<Lifecycle.Event>(10_000)
      const worker = yield* Harness.launch(Group, Group.toLayer({ flaky: () => Effect.die("no") }), {
        concurrency: 200
      }, {
        references: Layer.succeed(Lifecycle.Bus)(bus)
      })
      yield* Effect.forkScoped(
        Stream.runForEach(
          worker.lifecycle,
          ({ _tag, task }) => Effect.sync(() => told.set(task.id, [...told.get(task.id) ?? [], _tag]))
        )
      )
      yield* Harness.insertMany("flaky", 300)
      yield* Harness.awaitAllOver
      yield* Harness.eventually("the last", worker.stats.snapshot, ({ counters }) => counters.failed === 300)
      yield* worker.stop
      const [start, end] = ["Started", "Failed"]
      for (const tags of told.values()) assert.deepStrictEqual(tags, [start, end, start, end, start, end])
    }).pipe(Harness.onDatabase))

  it.live("in its log: the handler's lines and each failure carry the task", () =>
    Effect.gen(function*() {
      const lines: Array<Harness.LogLine> = []
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers, {}, { references: Harness.keepLogs(lines) })
      const id = yield* Harness.insert("scripted", { max_attempts: 1, tag: "blue" })
      const { proceed } = yield* script.next(id)
      yield* proceed(
        Effect.andThen(Effect.logInfo("from the handler"), Effect.fail(new Harness.Refused({ why: "no" })))
      )
      yield* Harness.awaitOver(id)
      const about = { taskId: String(id), taskType: "scripted", attempt: 1, tag: "blue" }
      assert.deepInclude(lines.find(({ message }) => message === "from the handler")?.annotations, about)
      assert.deepInclude(lines.find(({ message }) => message === "a task failed")?.annotations, {
        ...about,
        errorKind: "failure",
        errorTag: "Refused"
      })
    }).pipe(Harness.onDatabase))
})

describe("a worker's log at debug", () => {
  it.live("tells when a task starts and how it ends", () =>
    Effect.gen(function*() {
      const told = Effect.fnUntraced(function*(level: "Debug" | "Info") {
        const lines: Array<Harness.LogLine> = []
        const script = Harness.script()
        const { stop } = yield* Harness.launch(Harness.Tasks, script.handlers, {}, {
          references: Layer.merge(Harness.keepLogs(lines), Layer.succeed(References.MinimumLogLevel, level))
        })
        const id = yield* Harness.insert("scripted", { tag: "blue" })
        yield* (yield* script.next(id)).proceed(Effect.succeed(1))
        yield* Harness.awaitOver(id)
        yield* stop
        return { id, lines: lines.filter(({ message }) => message.startsWith("task ")) }
      })
      const { id, lines } = yield* told("Debug")
      assert.deepStrictEqual(lines.map(({ message }) => message), ["task started", "task completed"])
      for (const { annotations } of lines) {
        assert.deepInclude(annotations, { taskId: String(id), taskType: "scripted", tag: "blue" })
      }
      assert.deepInclude(lines[0]!.annotations, { attempt: 1 })
      assert.deepStrictEqual((yield* told("Info")).lines, [])
    }).pipe(Harness.onDatabase))
})

describe("a worker that has run many tasks", () => {
  it.live("has as many fibers as before", () =>
    Effect.gen(function*() {
      class Varied extends Task.make("varied", { retry: { backoff: { _tag: "Fixed", delay: 0 } } }) {}
      class Group extends TaskGroup.make(Varied) {}
      let fibers = 0
      const sql = yield* PgClient.PgClient
      const { stop } = yield* Harness.launch(
        Group,
        Group.toLayer({
          varied: (_, { task }) => {
            switch (Number(task.id) % 5) {
              case 0:
                return Effect.void
              case 1:
                return Effect.sleep(1)
              case 2:
                return Effect.die("a bug")
              case 3:
                return Effect.forkScoped(Effect.never)
              default:
                return Effect.delay(Effect.interrupt, 1)
            }
          }
        }),
        { concurrency: 20 },
        {
          references: Layer.succeed(Metric.FiberRuntimeMetrics)({
            recordFiberStart: () => fibers++,
            recordFiberEnd: () => fibers--
          })
        }
      )
      const insert = (count: number) =>
        Effect.andThen(
          sql`insert into spindle.tasks (type, max_attempts) select 'varied', 2 from generate_series(1, ${count}::int)`,
          Harness.awaitAllOver
        )
      yield* insert(50)
      const few = yield* Harness.eventually("quiet", Effect.sync(() => fibers), (now) => now > 0 && now < 60)
      yield* insert(1000)
      yield* Harness.eventually("as quiet as before", Effect.sync(() => fibers), (now) => now <= few + 5)
      yield* stop
      yield* Harness.eventually("nothing left", Effect.sync(() => fibers), (now) => now === 0)
    }).pipe(Harness.onDatabase), 40_000)
})
