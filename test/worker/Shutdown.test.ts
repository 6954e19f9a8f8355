import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Latch, Queue } from "effect"
import * as Task from "../../src/Task.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"
import * as Worker from "../../src/Worker.ts"
import * as Harness from "../support/WorkerHarness.ts"

const delta = (text: string) => ({ _tag: "text_delta", text }) as const

describe("shutdown", () => {
  it.live(
    "lets running tasks finish, claims nothing more, and hears of cancels until the end",
    () =>
      Effect.gen(function*() {
        const script = Harness.script()
        const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { shutdownGrace: "20 seconds" })
        const ids = [yield* Harness.insert("scripted"), yield* Harness.insert("scripted")]
        const [short, cancelled] = yield* Effect.forEach(ids, script.next)
        assert.isFalse(yield* short!.execution.isShuttingDown)
        yield* cancelled!.proceed(Effect.never)
        const stopping = yield* Effect.forkChild(worker.stop)
        yield* Harness.eventually("the beginning of the end", short!.execution.isShuttingDown, (begun) => begun)
        const late = yield* Harness.insert("plain")
        yield* Harness.cancel(ids[1]!)
        yield* Deferred.await(cancelled!.ended)
        yield* short!.proceed(Effect.as(short!.execution.emit(delta("last")), "done"))
        yield* Fiber.join(stopping)
        assert.deepInclude(yield* Harness.rowOf(ids[0]!), { status: "completed", result: "done", locked_by: null })
        assert.deepInclude(yield* Harness.rowOf(ids[1]!), { status: "cancelled", locked_by: null })
        // a claim that was on its way may still have brought it: then it was put back
        assert.deepInclude(yield* Harness.rowOf(late), { status: "queued", attempts: 0, locked_by: null })
        assert.deepStrictEqual(script.started, ids)
        yield* Harness.assertContract
      }).pipe(Harness.onDatabase),
    40_000
  )

  it.live("puts back uncharged what outlives the grace period, with all it said", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { shutdownGrace: "300 millis" })
      const id = yield* Harness.insert("scripted", { max_attempts: 1 })
      const { execution, proceed } = yield* script.next(id)
      yield* proceed(Effect.onInterrupt(
        Effect.andThen(execution.emit(delta("one")), Effect.never),
        () => execution.emit(delta("two"))
      ))
      yield* Harness.eventually("what it said", Harness.eventsOf(id), (events) => events.length === 1)
      yield* worker.stop
      const row = yield* Harness.rowOf(id)
      assert.deepInclude(row, { status: "queued", attempts: 0, epoch: 1n, locked_by: null, lease_expires_at: null })
      const events = yield* Harness.eventsOf(id)
      assert.deepStrictEqual(events.map(({ type }) => type), ["text_delta", "text_delta", "released"])
      assert.strictEqual(events[2]!.data.reason, "shutdown")
      yield* Harness.assertContract

      yield* Harness.launch(Harness.Tasks, script.handlers)
      const again = yield* script.next(id)
      assert.strictEqual(again.execution.attempt, 1)
      yield* again.proceed(Effect.succeed(1))
      assert.deepInclude(yield* Harness.awaitOver(id), { status: "completed", attempts: 1 })
    }).pipe(Harness.onDatabase))

  it.live("puts back what was claimed and had not started", () =>
    Effect.gen(function*() {
      class Quick extends Task.make("quick") {}
      class Group extends TaskGroup.make(Quick) {}
      const sql = yield* PgClient.PgClient
      yield* sql`insert into spindle.tasks (type, tag)
        select 'quick', case when n % 100 = 0 then 'gate' end from generate_series(1, 1000) n`
      const gates = yield* Queue.unbounded<Deferred.Deferred<void>>()
      const ran = new Set<bigint>()
      const worker = yield* Harness.launch(
        Group,
        Group.toLayer({
          quick: (_, { task }) =>
            Effect.andThen(
              Effect.sync(() => ran.add(task.id)),
              task.tag === "gate"
                ? Effect.flatMap(
                  Deferred.make<void>(),
                  (gate) => Effect.andThen(Queue.offer(gates, gate), Deferred.await(gate))
                )
                : Effect.void
            )
        }),
        { concurrency: 1, shutdownGrace: "20 seconds" }
      )
      // a gate that was the last of its claim has nothing behind it
      let gate = yield* Queue.take(gates)
      const behind = Effect.map(
        sql<{ readonly id: bigint }>`select id from spindle.tasks where status = 'processing' and tag is null`,
        (rows) => rows.find(({ id }) => !ran.has(id))
      )
      let waiting = yield* behind
      while (waiting === undefined) {
        yield* Deferred.succeed(gate, undefined)
        gate = yield* Queue.take(gates)
        waiting = yield* behind
      }
      const { id } = waiting
      const stopping = yield* Effect.forkChild(worker.stop)
      yield* Harness.awaitRow(id, ({ status }) => status === "queued")
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(stopping)
      assert.isFalse(ran.has(id))
      assert.deepInclude(yield* Harness.rowOf(id), { status: "queued", attempts: 0, epoch: 1n })
      assert.deepStrictEqual((yield* Harness.eventsOf(id)).map(({ type }) => type), ["released"])
      assert.deepStrictEqual(
        yield* sql`select status, count(*)::int as count from spindle.tasks group by 1 order by 1`,
        [{ status: "completed", count: ran.size }, { status: "queued", count: 1000 - ran.size }]
      )
      yield* Harness.assertContract
    }).pipe(Harness.onDatabase), 40_000)

  it.live("does not wait once it is told to hurry", () =>
    Effect.gen(function*() {
      const hurry = Latch.makeUnsafe()
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { shutdownGrace: "1 hour" }).pipe(
        Effect.provideService(Worker.Hurry, hurry)
      )
      const id = yield* Harness.insert("scripted")
      const { execution, proceed } = yield* script.next(id)
      yield* proceed(Effect.never)
      const stopping = yield* Effect.forkChild(worker.stop)
      yield* Harness.eventually("the beginning of the end", execution.isShuttingDown, (begun) => begun)
      assert.strictEqual((yield* Harness.rowOf(id)).status, "processing")
      yield* hurry.open
      yield* Fiber.join(stopping)
      assert.deepInclude(yield* Harness.rowOf(id), { status: "queued", attempts: 0 })
      yield* Harness.assertContract
    }).pipe(Harness.onDatabase))

  it.live("names what it could not write", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      const sql = yield* PgClient.PgClient
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers)
      const id = yield* Harness.insert("scripted")
      const { execution, proceed } = yield* script.next(id)
      yield* sql`alter table spindle.task_events rename to gone`
      yield* proceed(Effect.andThen(execution.emit({ _tag: "text_delta", text: "unheard" }), Effect.never))
      const defect = yield* Effect.catchDefect(Effect.as(worker.stop, undefined), Effect.succeed)
      assert.instanceOf(defect, Worker.WorkerError)
      assert.match(String((defect as Error).message), new RegExp(`Not written: scripted ${id}, 1 events$`))
      yield* sql`alter table spindle.gone rename to task_events`
    }).pipe(Harness.onDatabase), 40_000)

  it.live("a worker that cannot start says why", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const script = Harness.script()
      const start = (options: Partial<Worker.Options>) =>
        Effect.flip(Effect.scoped(Harness.launch(Harness.Tasks, script.handlers, options)))
      const invalid = yield* start({ concurrency: 0 })
      assert.match(invalid.message, /concurrency is 0/)
      assert.match((yield* start({ lease: "1 milli" })).message, /lease is 1 milli, .* from 500/)
      yield* sql`alter table spindle.tasks drop column epoch`
      const contract = yield* start({ migrations: "run" })
      assert.match(contract.message, /column spindle\.tasks\.epoch \(bigint\)/)
    }).pipe(Harness.onDatabase))
})
