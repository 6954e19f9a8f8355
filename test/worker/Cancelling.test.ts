import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Queue, Random, Schema } from "effect"
import * as Task from "../../src/Task.ts"
import * as TaskEvent from "../../src/TaskEvent.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"
import * as Harness from "../support/WorkerHarness.ts"

const delta = (text: string) => ({ _tag: "text_delta", text }) as const

const typesOf = (id: bigint) => Effect.map(Harness.eventsOf(id), (events) => events.map(({ type }) => type))

describe("a cancelled task", () => {
  it.live("that was queued never runs", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      const id = yield* Harness.insert("plain", { priority: 1 })
      assert.isTrue(yield* Harness.cancel(id))
      assert.isFalse(yield* Harness.cancel(id))
      yield* Harness.launch(Harness.Tasks, script.handlers)
      const other = yield* Harness.insert("plain")
      yield* Harness.awaitOver(other)
      assert.deepStrictEqual(script.started, [other])
      assert.deepInclude(yield* Harness.rowOf(id), { status: "cancelled", epoch: 1n, attempts: 0 })
      assert.deepStrictEqual(yield* Harness.eventsOf(id), [{ epoch: 1n, seq: 1, type: "cancelled", data: {} }])
    }).pipe(Harness.onDatabase))

  for (const notifications of ["on", "off"] as const) {
    it.live(`is interrupted in the middle with notifications ${notifications}`, () =>
      Effect.gen(function*() {
        const script = Harness.script()
        yield* Harness.launch(Harness.Tasks, script.handlers, {
          notifications,
          pollInterval: notifications === "on" ? "1 hour" : "100 millis"
        })
        const id = yield* Harness.insert("scripted")
        const { ended, execution, proceed, unwind } = yield* script.next(id)
        unwind.closeUnsafe()
        yield* proceed(Effect.andThen(
          Effect.andThen(execution.emit(delta("one")), execution.emit(delta("two"))),
          Effect.onInterrupt(Effect.never, () => execution.emit(delta("last words")))
        ))
        yield* Harness.eventually("the deltas", typesOf(id), (types) => types.length === 2)
        assert.isTrue(yield* Harness.cancel(id))
        const exit = yield* Deferred.await(ended)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
        const unwinding = yield* Harness.rowOf(id)
        assert.strictEqual(unwinding.status, "cancelled")
        assert.isNotNull(unwinding.locked_by)
        assert.isNotNull(unwinding.finished_at)
        assert.isFalse(yield* Harness.cancel(id))
        yield* Effect.sleep("100 millis")
        yield* unwind.open
        const row = yield* Harness.awaitOver(id)
        assert.deepInclude(row, { status: "cancelled", epoch: 1n, attempts: 1, result: null, error: null })
        assert.deepStrictEqual(row.finished_at, unwinding.finished_at)
        const events = yield* Harness.eventsOf(id)
        assert.deepStrictEqual(events.map(({ data, type }) => [type, data.text]), [
          ["text_delta", "one"],
          ["text_delta", "two"],
          ["text_delta", "last words"],
          ["cancelled", undefined]
        ])
        const { startedAt, unwoundMs, worker, ...rest } = events.at(-1)!.data
        assert.isAtLeast(unwoundMs, 100)
        assert.isString(startedAt)
        assert.strictEqual(worker, unwinding.locked_by)
        assert.deepStrictEqual(rest, {})
      }).pipe(Harness.onDatabase))
  }

  it.live("that finishes all the same stays cancelled", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers)
      const id = yield* Harness.insert("scripted")
      const { execution, proceed } = yield* script.next(id)
      yield* proceed(Effect.uninterruptible(
        Effect.gen(function*() {
          yield* Effect.orDie(Harness.cancel(id))
          // it hears of it, and goes on all the same
          yield* Effect.exit(Effect.interruptible(Effect.never))
          yield* execution.emit(delta("done"))
          return "a result"
        }).pipe(Effect.provideContext(yield* Effect.context<PgClient.PgClient>()))
      ))
      assert.deepInclude(yield* Harness.awaitOver(id), { status: "cancelled", result: null })
      assert.deepStrictEqual(yield* typesOf(id), ["text_delta", "cancelled"])
      assert.isNumber((yield* Harness.eventsOf(id)).at(-1)!.data.unwoundMs)
    }).pipe(Harness.onDatabase))

  it.live("that was claimed and waits for its queue never runs", () =>
    Effect.gen(function*() {
      class Quick extends Task.make("quick") {}
      class Slow extends Task.make("slow") {}
      class Group extends TaskGroup.make(Quick, Slow) {}
      const ran = new Set<bigint>()
      const gates = yield* Queue.unbounded<Deferred.Deferred<void>>()
      let holding = true
      yield* Harness.launch(
        Group,
        Group.toLayer({
          quick: (_, { task }) =>
            Effect.sync(() => ran.add(task.id)).pipe(
              Effect.andThen(
                task.tag === "gate" && holding
                  ? Effect.flatMap(
                    Deferred.make<void>(),
                    (gate) => Effect.andThen(Queue.offer(gates, gate), Deferred.await(gate))
                  )
                  : Effect.void
              )
            ),
          slow: () => Effect.void
        }),
        { concurrency: 1 }
      )
      // a streak that makes the type quick, then one that holds the only slot: what was claimed with it waits
      const sql = yield* PgClient.PgClient
      yield* sql`insert into spindle.tasks (type, tag)
        select 'quick', case when n % 100 = 0 then 'gate' end from generate_series(1, 1000) n`
      // a gate that was the last of its claim has nothing behind it; what is behind one goes back soon
      let gate = yield* Queue.take(gates)
      const cancelBehind = Effect.suspend(() =>
        sql<{ readonly id: bigint }>`update spindle.tasks set status = 'cancelled'
          where status = 'processing' and tag is null and id <> all(${[...ran]}::bigint[]) returning id`
      )
      let cancelled = yield* cancelBehind
      while (cancelled.length === 0) {
        yield* Deferred.succeed(gate, undefined)
        gate = yield* Queue.take(gates)
        cancelled = yield* cancelBehind
      }
      holding = false
      const ids = cancelled.map(({ id }) => id)
      yield* Effect.forEach(ids, (id) => Harness.awaitRow(id, Harness.isOver))
      yield* Deferred.succeed(gate, undefined)
      yield* Harness.awaitAllOver
      for (const id of ids) {
        assert.isFalse(ran.has(id))
        assert.strictEqual((yield* Harness.rowOf(id)).status, "cancelled")
        assert.deepStrictEqual(yield* typesOf(id), ["cancelled"])
        assert.hasAllKeys((yield* Harness.eventsOf(id))[0]!.data, ["startedAt", "worker"])
      }
      yield* Harness.assertContract
    }).pipe(Harness.onDatabase))

  it.live("that is run again while it unwinds is refused, and afterwards runs", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers)
      const sql = yield* PgClient.PgClient
      const id = yield* Harness.insert("scripted")
      const first = yield* script.next(id)
      first.unwind.closeUnsafe()
      yield* first.proceed(Effect.never)
      yield* Harness.cancel(id)
      yield* Deferred.await(first.ended)
      const again = sql`update spindle.tasks set status = 'queued', attempts = 0, run_at = now()
        where id = ${id} and status in ('failed', 'cancelled', 'completed') and locked_by is null returning id`
      assert.isEmpty(yield* again)
      yield* first.unwind.open
      yield* Harness.awaitOver(id)
      assert.lengthOf(yield* again, 1)
      const second = yield* script.next(id)
      assert.strictEqual(second.execution.attempt, 1)
      yield* second.proceed(Effect.succeed(2))
      assert.deepInclude(yield* Harness.awaitOver(id), { status: "completed", result: 2, epoch: 2n })
      assert.deepStrictEqual(yield* typesOf(id), ["cancelled", "done"])
    }).pipe(Harness.onDatabase))
})

describe("cancelling around the moment of completion", () => {
  for (const triggers of [true, false]) {
    it.live(`tells the truth, ${triggers ? "with" : "without"} triggers`, () =>
      Effect.gen(function*() {
        class Brief extends Task.make("brief", {
          payload: { millis: Schema.Int },
          success: Schema.String,
          event: TaskEvent.TextDelta
        }) {}
        class Group extends TaskGroup.make(Brief) {}
        const sql = yield* PgClient.PgClient
        if (!triggers) {
          for (const name of ["tasks_cancel", "tasks_notify_inserted", "tasks_notify_requeued"]) {
            yield* sql.unsafe(`drop trigger ${name} on spindle.tasks`)
          }
        }
        const count = 1000
        const rows = yield* sql<{ readonly id: bigint }>`
          insert into spindle.tasks (type, payload)
          select 'brief', jsonb_build_object('millis', floor(random() * 15)) from generate_series(1, ${count}::int)
          returning id`
        const answers = new Map<bigint, boolean>()
        const ask = Effect.fnUntraced(function*(id: bigint) {
          answers.set(id, yield* Harness.cancel(id))
        })
        const started = yield* Queue.unbounded<{ readonly id: bigint; readonly go: Effect.Effect<unknown> }>()
        yield* Effect.forEach(rows.slice(-50), ({ id }) => ask(id), { concurrency: 5, discard: true })
        const canceller = Effect.gen(function*() {
          const { go, id } = yield* Queue.take(started)
          yield* go
          yield* Effect.sleep(yield* Random.nextIntBetween(0, 15))
          yield* ask(id)
        })
        for (let n = 0; n < 20; n++) yield* Effect.forkScoped(Effect.forever(canceller))
        const worker = yield* Harness.launch(
          Group,
          Group.toLayer({
            // begins when its canceller does, however far behind that is
            brief: Effect.fnUntraced(function*({ millis }, { emit, task }) {
              const gone = yield* Deferred.make<void>()
              yield* Queue.offer(started, { id: task.id, go: Deferred.succeed(gone, undefined) })
              yield* emit(delta("a"))
              yield* Deferred.await(gone)
              yield* Effect.sleep(millis)
              return "done"
            })
          }),
          { concurrency: 10, pollInterval: "20 millis" }
        )
        yield* Harness.awaitAllOver
        yield* Harness.eventually("every answer", Effect.sync(() => answers.size), (size) => size === count)
        yield* Harness.eventually(
          "the closing of the last",
          sql`select from spindle.tasks where finished_at is null`,
          (open) => open.length === 0
        )
        yield* worker.stop
        yield* Harness.assertContract
        const facts = yield* sql<{ readonly id: bigint; readonly status: string; readonly closings: number }>`
          select t.id, t.status, count(e.*)::int as closings from spindle.tasks t
            left join spindle.task_events e on e.task_id = t.id and e.type in ('done', 'cancelled')
           group by t.id`
        assert.lengthOf(facts, count)
        for (const { closings, id, status } of facts) {
          assert.strictEqual(status, answers.get(id) === true ? "cancelled" : "completed", `task ${id}`)
          assert.strictEqual(closings, 1, `task ${id}`)
        }
        const cancelled = [...answers.values()].filter((answer) => answer).length
        assert.isAbove(cancelled, 60)
        assert.isBelow(cancelled, count - 10)
      }).pipe(Harness.onDatabase), 60_000)
  }
})
