import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Latch, Schema } from "effect"
import * as Task from "../../src/Task.ts"
import * as TaskEvent from "../../src/TaskEvent.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"
import * as Harness from "../support/WorkerHarness.ts"

const closing = (id: bigint) => Effect.map(Harness.eventsOf(id), (events) => events.map(({ type }) => type))

/** Starts a worker with one scripted task and waits until that runs. */
const running = Effect.fnUntraced(function*(columns: Readonly<Record<string, unknown>> = {}) {
  const script = Harness.script()
  const worker = yield* Harness.launch(Harness.Tasks, script.handlers)
  const id = yield* Harness.insert("scripted", columns)
  return { attempt: yield* script.next(id), id, script, worker }
})

describe("a completed task", () => {
  it.live("of a plain type is told by its row alone", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      const { id: worker } = yield* Harness.launch(Harness.Tasks, script.handlers)
      const id = yield* Harness.insert("plain", { payload: "{\"n\": 7}" })
      const row = yield* Harness.awaitOver(id)
      assert.deepInclude(row, { status: "completed", result: 7, error: null, attempts: 1, epoch: 1n })
      assert.deepStrictEqual(yield* Harness.eventsOf(id), [])

      const sql = yield* PgClient.PgClient
      // No event names the worker, so the row does.
      const by = yield* sql`select completed_by from spindle.tasks where id = ${id}`
      assert.deepStrictEqual(by, [{ completed_by: worker }])
      yield* sql`update spindle.tasks set status = 'queued', attempts = 0, run_at = now()
                  where id = ${id} and status in ('failed', 'cancelled', 'completed') and locked_by is null`
      const again = yield* Harness.awaitRow(id, ({ epoch, status }) => epoch === 2n && status === "completed")
      yield* Harness.assertContract
      // a reader of the first claim must learn that there was another
      const [done, ...rest] = yield* Harness.eventsOf(id)
      assert.deepInclude(done, { epoch: 2n, seq: 1, type: "done" })
      assert.strictEqual(done!.data.worker, worker)
      assert.strictEqual(new Date(done!.data.startedAt).getTime(), again.started_at!.getTime())
      assert.isEmpty(rest)
    }).pipe(Harness.onDatabase))

  it.live("of a type with events ends with done, whether it said anything or not", () =>
    Effect.gen(function*() {
      const { attempt, id } = yield* running()
      yield* attempt.proceed(Effect.succeed(null))
      const row = yield* Harness.awaitOver(id)
      assert.deepInclude(row, { status: "completed", result: null })
      assert.deepStrictEqual(yield* closing(id), ["done"])
    }).pipe(Harness.onDatabase))

  it.live("of a plain type that told its progress ends with done", () =>
    Effect.gen(function*() {
      class Counting extends Task.make("counting") {}
      class Group extends TaskGroup.make(Counting) {}
      yield* Harness.launch(
        Group,
        Group.toLayer({ counting: (_, { progress }) => progress(0.5, "half") })
      )
      const id = yield* Harness.insert("counting")
      yield* Harness.awaitOver(id)
      const [progress, done] = yield* Harness.eventsOf(id)
      assert.deepInclude(progress, { seq: 1, type: "progress", data: { fraction: 0.5, message: "half" } })
      assert.deepInclude(done, { seq: 2, type: "done" })
    }).pipe(Harness.onDatabase))
})

describe("a failed attempt", () => {
  it.live("is tried again and may succeed", () =>
    Effect.gen(function*() {
      const { attempt, id, script } = yield* running()
      yield* attempt.proceed(Effect.andThen(
        attempt.execution.emit({ _tag: "text_delta", text: "a" }),
        Effect.fail(new Harness.Refused({ why: "busy" }))
      ))
      const second = yield* script.next(id)
      assert.strictEqual(second.execution.attempt, 2)
      assert.isNull((yield* Harness.rowOf(id)).error)
      yield* second.proceed(Effect.succeed("fine"))
      const row = yield* Harness.awaitOver(id)
      assert.deepInclude(row, { status: "completed", result: "fine", error: null, attempts: 2, epoch: 2n })
      const [delta, retry, done] = yield* Harness.eventsOf(id)
      assert.deepInclude(delta, { epoch: 1n, seq: 1, type: "text_delta", data: { text: "a" } })
      assert.deepInclude(retry, { epoch: 1n, seq: 2, type: "retry" })
      assert.deepInclude(retry!.data, {
        kind: "failure",
        tag: "Refused",
        willRetry: true,
        data: { _tag: "Refused", why: "busy" }
      })
      assert.isString(retry!.data.runAt)
      assert.deepInclude(done, { epoch: 2n, seq: 1, type: "done" })
    }).pipe(Harness.onDatabase))

  it.live("is tried again no sooner than its delay, and keeps its error meanwhile", () =>
    Effect.gen(function*() {
      const { attempt, id } = yield* running()
      yield* attempt.proceed(Effect.fail(new Task.Retry({ delay: "1 hour", cause: new Error("later") })))
      const row = yield* Harness.awaitRow(id, ({ status }) => status === "queued")
      yield* Harness.assertContract
      assert.deepInclude(row, { attempts: 1, epoch: 1n, result: null })
      assert.deepInclude(row.error, { kind: "failure", message: "later" })
      assert.closeTo(row.run_at.getTime() - row.started_at!.getTime(), 3_600_000, 60_000)
      const [retry] = yield* Harness.eventsOf(id)
      assert.strictEqual(new Date(retry!.data.runAt).getTime(), row.run_at.getTime())
    }).pipe(Harness.onDatabase))

  it.live("is the last when none is left", () =>
    Effect.gen(function*() {
      const { attempt, id } = yield* running({ max_attempts: 1 })
      yield* attempt.proceed(Effect.fail(new Harness.Refused({ why: "no" })))
      const row = yield* Harness.awaitOver(id)
      assert.deepInclude(row, { status: "failed", attempts: 1, result: null })
      assert.deepInclude(row.error, { kind: "failure", tag: "Refused", data: { _tag: "Refused", why: "no" } })
      const [error] = yield* Harness.eventsOf(id)
      assert.strictEqual(error!.type, "error")
      assert.deepInclude(error!.data, { ...row.error, willRetry: false })
    }).pipe(Harness.onDatabase))

  const ends: Record<string, { readonly how: Effect.Effect<never, Task.Control>; readonly error: object }> = {
    "a defect": {
      how: Effect.die(new TypeError("a bug")),
      error: { kind: "defect", tag: "TypeError", message: "a bug" }
    },
    "an interruption of itself": { how: Effect.interrupt, error: { kind: "interrupted", tag: "Interrupted" } },
    "an error outside its schema": {
      how: Effect.fail({ _tag: "Stranger", message: "hello" } as never),
      error: { kind: "failure", tag: "Stranger", message: "hello" }
    }
  }
  for (const [what, { error, how }] of Object.entries(ends)) {
    it.live(`by ${what} is told apart, and retried`, () =>
      Effect.gen(function*() {
        const { attempt, id, script } = yield* running({ max_attempts: 2 })
        yield* attempt.proceed(how)
        yield* Effect.flatMap(script.next(id), ({ proceed }) => proceed(how))
        const row = yield* Harness.awaitOver(id)
        assert.deepInclude(row, { status: "failed", attempts: 2 })
        assert.deepInclude(row.error, error)
        assert.deepStrictEqual(yield* closing(id), ["retry", "error"])
      }).pipe(Harness.onDatabase))
  }

  it.live("by Discard ends the task at once", () =>
    Effect.gen(function*() {
      const { attempt, id } = yield* running()
      yield* attempt.proceed(Effect.fail(new Task.Discard({ cause: new Error("pointless") })))
      const row = yield* Harness.awaitOver(id)
      assert.deepInclude(row, { status: "failed", attempts: 1 })
      assert.deepInclude(row.error, { kind: "discarded", message: "pointless" })
    }).pipe(Harness.onDatabase))

  it.live("by Snooze is not charged", () =>
    Effect.gen(function*() {
      const { attempt, id, script } = yield* running({ max_attempts: 1 })
      yield* attempt.proceed(Effect.fail(new Task.Snooze({ delay: 10 })))
      const second = yield* script.next(id)
      assert.strictEqual(second.execution.attempt, 1)
      yield* second.proceed(Effect.succeed(1))
      assert.deepInclude(yield* Harness.awaitOver(id), { status: "completed", attempts: 1, epoch: 2n })
      const [released] = yield* Harness.eventsOf(id)
      assert.strictEqual(released!.type, "released")
      assert.strictEqual(released!.data.reason, "snooze")
      assert.isString(released!.data.runAt)
    }).pipe(Harness.onDatabase))

  for (const Control of [Task.Retry, Task.Snooze]) {
    it.live(`by a ${Control.name} whose delay is none is a defect`, () =>
      Effect.gen(function*() {
        const { attempt, id, script } = yield* running({ max_attempts: 2 })
        yield* attempt.proceed(Effect.fail(new Control({ delay: "soon" as never })))
        const second = yield* script.next(id)
        yield* second.proceed(Effect.fail(new Task.Snooze({ delay: NaN })))
        const row = yield* Harness.awaitOver(id)
        assert.deepInclude(row, { status: "failed", attempts: 2 })
        assert.deepInclude(row.error, { kind: "defect", tag: "TypeError" })
      }).pipe(Harness.onDatabase))
  }

  it.live("by a result of the wrong type is a defect, and nothing of it is stored", () =>
    Effect.gen(function*() {
      class Wrong extends Task.make("wrong", { success: Schema.Int }) {}
      class Group extends TaskGroup.make(Wrong) {}
      yield* Harness.launch(Group, Group.toLayer({ wrong: () => Effect.succeed("text" as never) }))
      const id = yield* Harness.insert("wrong", { max_attempts: 1 })
      const row = yield* Harness.awaitOver(id)
      assert.deepInclude(row, { status: "failed", result: null })
      assert.strictEqual(row.error.kind, "defect")
    }).pipe(Harness.onDatabase))

  it.live("by a handler that throws when it is called is a defect", () =>
    Effect.gen(function*() {
      class Throwing extends Task.make("throwing") {}
      class Group extends TaskGroup.make(Throwing) {}
      yield* Harness.launch(
        Group,
        Group.toLayer({
          throwing: (): Effect.Effect<void> => {
            throw new RangeError("at once")
          }
        })
      )
      const id = yield* Harness.insert("throwing", { max_attempts: 1 })
      const row = yield* Harness.awaitOver(id)
      assert.deepInclude(row.error, { kind: "defect", tag: "RangeError", message: "at once" })
    }).pipe(Harness.onDatabase))
})

describe("a payload that does not decode", () => {
  it.live("fails its task without a retry, and the queue flows on", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers, { concurrency: 1 })
      const bad = yield* Harness.insert("plain", { payload: "{\"n\": \"seven\"}" })
      const good = yield* Harness.insert("plain")
      const row = yield* Harness.awaitOver(bad)
      assert.deepInclude(row, { status: "failed", attempts: 1, epoch: 1n })
      assert.deepInclude(row.error, { kind: "rejected", tag: "InvalidPayload" })
      assert.match(row.error.message, /\["n"\]/)
      assert.deepStrictEqual(yield* closing(bad), ["error"])
      assert.strictEqual((yield* Harness.awaitOver(good)).status, "completed")
      assert.deepStrictEqual(script.started, [good])
    }).pipe(Harness.onDatabase))
})

describe("a timeout", () => {
  it.live("interrupts the handler; its slot is free when the finalizers have run", () =>
    Effect.gen(function*() {
      class Slow extends Task.make("slow") {}
      class Next extends Task.make("next") {}
      class Group extends TaskGroup.make(Slow, Next) {}
      const ended = yield* Deferred.make<Exit.Exit<never>>()
      const unwind = Latch.makeUnsafe()
      yield* Harness.launch(
        Group,
        Group.toLayer({
          slow: () =>
            Effect.onExit(Effect.never, (exit) => Effect.andThen(Deferred.succeed(ended, exit), unwind.await)),
          next: () => Effect.void
        }),
        { concurrency: 1 }
      )
      const slow = yield* Harness.insert("slow", { timeout_ms: 50, max_attempts: 1 })
      const exit = yield* Deferred.await(ended)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      const next = yield* Harness.insert("next")
      // other turns of the worker's loops pass meanwhile
      yield* Effect.sleep("300 millis")
      assert.strictEqual((yield* Harness.rowOf(slow)).status, "processing")
      assert.strictEqual((yield* Harness.rowOf(next)).status, "queued")
      yield* unwind.open
      assert.strictEqual((yield* Harness.awaitOver(next)).status, "completed")
      const row = yield* Harness.awaitOver(slow)
      assert.strictEqual(row.status, "failed")
      assert.deepInclude(row.error, { kind: "timeout", tag: "Timeout" })
      assert.match(row.error.message, /50 ms/)
    }).pipe(Harness.onDatabase))

  it.live("waits for what is uninterruptible, which has succeeded if nothing comes after it", () =>
    Effect.gen(function*() {
      const step = Effect.uninterruptible(Effect.sleep("100 millis"))
      const handlers: Record<string, Effect.Effect<void>> = {
        whole: step,
        last: Effect.andThen(Effect.void, step),
        masked: Effect.uninterruptibleMask((restore) => Effect.andThen(step, restore(Effect.sleep(0)))),
        first: Effect.andThen(step, Effect.never),
        again: Effect.forever(step),
        restored: Effect.uninterruptibleMask((restore) => Effect.andThen(step, restore(Effect.never)))
      }
      class Stubborn extends Task.make("stubborn", { payload: { how: Schema.String } }) {}
      class Group extends TaskGroup.make(Stubborn) {}
      yield* Harness.launch(Group, Group.toLayer({ stubborn: ({ how }) => handlers[how]! }), { concurrency: 6 })
      const hows = Object.keys(handlers)
      const ids = yield* Effect.forEach(
        hows,
        (how) => Harness.insert("stubborn", { payload: JSON.stringify({ how }), timeout_ms: 20, max_attempts: 1 })
      )
      const statuses = yield* Effect.forEach(ids, (id) => Effect.map(Harness.awaitOver(id), ({ status }) => status))
      assert.deepStrictEqual(Object.fromEntries(hows.map((how, n) => [how, statuses[n]])), {
        whole: "completed",
        last: "completed",
        masked: "failed",
        first: "failed",
        again: "failed",
        restored: "failed"
      })
    }).pipe(Harness.onDatabase))

  it.live("of the type counts where the task has none, and the worker's where the type has none", () =>
    Effect.gen(function*() {
      class Brief extends Task.make("brief", { timeout: "30 millis" }) {}
      class Open extends Task.make("open") {}
      class Group extends TaskGroup.make(Brief, Open) {}
      yield* Harness.launch(
        Group,
        Group.toLayer({ brief: () => Effect.never, open: () => Effect.never }),
        { taskTimeout: "60 millis" }
      )
      const brief = yield* Harness.insert("brief", { max_attempts: 1 })
      const open = yield* Harness.insert("open", { max_attempts: 1 })
      assert.match((yield* Harness.awaitOver(brief)).error.message, / 30 ms/)
      assert.match((yield* Harness.awaitOver(open)).error.message, / 60 ms/)
    }).pipe(Harness.onDatabase))
})

describe("what the database cannot store", () => {
  it.live("is replaced: NUL in a result, half a surrogate pair in an event and in an error", () =>
    Effect.gen(function*() {
      const { attempt, id, script } = yield* running()
      yield* attempt.proceed(Effect.as(
        attempt.execution.emit({ _tag: "text_delta", text: "half \ud83d" }),
        { "a\0": "b\0c", fine: "😀 \\u0000" }
      ))
      const row = yield* Harness.awaitOver(id)
      assert.deepInclude(row, { status: "completed", result: { "a\uFFFD": "b\uFFFDc", fine: "😀 \\u0000" } })
      const [delta, done] = yield* Harness.eventsOf(id)
      assert.deepStrictEqual(delta!.data, { text: "half \uFFFD", sanitized: true })
      assert.deepInclude(done!.data, { sanitized: true })

      const failing = yield* Harness.insert("scripted", { max_attempts: 1 })
      const other = yield* script.next(failing)
      yield* other.proceed(Effect.fail(new Harness.Refused({ why: "\0" })))
      assert.deepInclude((yield* Harness.awaitOver(failing)).error, { data: { _tag: "Refused", why: "\uFFFD" } })
    }).pipe(Harness.onDatabase))

  it.live("because its owner forbids it concerns its task alone, and is marked", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`alter table spindle.tasks add check (result is null or result <> '"forbidden"')`
      yield* sql`alter table spindle.task_events add check (type <> 'text_delta' or data ->> 'text' <> 'unspeakable')`
      const script = Harness.script()
      const { stats } = yield* Harness.launch(Harness.Tasks, script.handlers, { concurrency: 20 })
      const ids = yield* Harness.insertMany("scripted", 10)
      const attempts = yield* Effect.forEach(ids, script.next)
      // in one write, as far as that can be arranged
      yield* Effect.forEach(attempts, ({ execution, proceed }, index) =>
        proceed(Effect.as(
          execution.emit({ _tag: "text_delta", text: index === 3 ? "unspeakable" : "said" }),
          index === 7 ? "forbidden" : "fine"
        )), { discard: true })
      for (const [index, id] of ids.entries()) {
        const row = yield* Harness.awaitOver(id)
        const [delta] = yield* Harness.eventsOf(id)
        assert.deepInclude(row, {
          status: index === 7 ? "failed" : "completed",
          result: index === 7 ? null : "fine",
          attempts: 1
        })
        assert.deepStrictEqual(
          delta!.data,
          index === 3 ? { sanitized: true, json: "{\"text\":\"unspeakable\"}" } : { text: "said" }
        )
        assert.deepStrictEqual(yield* closing(id), ["text_delta", index === 7 ? "error" : "done"])
      }
      const { error } = yield* Harness.rowOf(ids[7]!)
      assert.deepInclude(error, { kind: "defect", tag: "Unstorable" })
      assert.match(error.message, /violates check constraint/)
      // counted when the worker hears of a write, which is after everybody else can see it
      const { counters } = yield* Harness.eventually(
        "the last to be counted",
        stats.snapshot,
        ({ counters }) => counters.completed + counters.failed === 10
      )
      assert.deepInclude(counters, { completed: 9, failed: 1 })
    }).pipe(Harness.onDatabase))

  it.live("such as a result of 10,000 levels fails its task alone", () =>
    Effect.gen(function*() {
      class Deep extends Task.make("deep", { success: Schema.Any, event: TaskEvent.TextDelta }) {}
      class Group extends TaskGroup.make(Deep) {}
      let deep: unknown = 1
      for (let level = 0; level < 10_000; level++) deep = [deep]
      yield* Harness.launch(
        Group,
        Group.toLayer({
          deep: (_, { emit, task }) =>
            Effect.as(emit({ _tag: "text_delta", text: "before" }), task.priority > 0 ? deep : 1)
        })
      )
      const id = yield* Harness.insert("deep", { max_attempts: 1, priority: 1 })
      const others = yield* Harness.insertMany("deep", 20)
      const row = yield* Harness.awaitOver(id)
      assert.deepInclude(row, { status: "failed", result: null })
      assert.strictEqual(row.error.kind, "defect")
      assert.deepStrictEqual(yield* closing(id), ["text_delta", "error"])
      for (const other of others) assert.strictEqual((yield* Harness.awaitOver(other)).status, "completed")
    }).pipe(Harness.onDatabase))

  it.live("such as a result of more than 16 MiB fails its task without a retry", () =>
    Effect.gen(function*() {
      const { attempt, id } = yield* running()
      yield* attempt.proceed(Effect.sync(() => "x".repeat(17 * 1024 * 1024)))
      const row = yield* Harness.awaitOver(id)
      assert.deepInclude(row, { status: "failed", attempts: 1, result: null })
      assert.deepInclude(row.error, { kind: "defect", tag: "ResultTooLarge" })
    }).pipe(Harness.onDatabase))
})

describe("a type that nobody handles", () => {
  it.live("stays queued", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers)
      const alien = yield* Harness.insert("alien", { priority: 100 })
      const known = yield* Harness.insert("plain")
      yield* Harness.awaitOver(known)
      assert.deepInclude(yield* Harness.rowOf(alien), { status: "queued", attempts: 0, epoch: 0n })
    }).pipe(Harness.onDatabase))

  it.live("fails when that is asked for, but not before it is due", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers, { unknownTypes: "fail", pollInterval: "50 millis" })
      const later = yield* Harness.insert("alien", { run_at: new Date(Date.now() + 3_600_000) })
      const alien = yield* Harness.insert("alien")
      const row = yield* Harness.awaitOver(alien)
      assert.deepInclude(row, { status: "failed", attempts: 0, epoch: 1n })
      assert.deepInclude(row.error, { kind: "rejected", message: "Unknown task type" })
      assert.deepStrictEqual(yield* closing(alien), ["error"])
      assert.strictEqual((yield* Harness.rowOf(later)).status, "queued")
    }).pipe(Harness.onDatabase))

  it.live("is not one that this worker merely does not serve", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers, {
        unknownTypes: "fail",
        pollInterval: "50 millis",
        taskTypes: ["pl*n"]
      })
      const left = yield* Harness.insert("scripted")
      const alien = yield* Harness.insert("alien")
      const served = yield* Harness.insert("plain")
      yield* Harness.awaitOver(served)
      yield* Harness.awaitOver(alien)
      assert.deepInclude(yield* Harness.rowOf(left), { status: "queued", epoch: 0n })
    }).pipe(Harness.onDatabase))

  it.live("that an owner's trigger refuses waits on its own, and is recorded once it may be", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers)
      yield* sql`create function refuse() returns trigger language plpgsql as
        'begin raise exception ''not now''; end'`
      yield* sql`create trigger refuse before update on spindle.tasks for each row
        when (new.status = 'completed' and new.tag = 'refused') execute function refuse()`
      const refused = yield* Harness.insert("plain", { tag: "refused" })
      const others = yield* Harness.insertMany("plain", 20)
      for (const id of others) yield* Harness.awaitRow(id, ({ status }) => status === "completed")
      assert.strictEqual((yield* Harness.rowOf(refused)).status, "processing")
      yield* sql`drop trigger refuse on spindle.tasks`
      assert.deepInclude(yield* Harness.awaitOver(refused), { status: "completed", attempts: 1 })
    }).pipe(Harness.onDatabase))
})
