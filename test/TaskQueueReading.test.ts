import { PgClient, PgTypes } from "@effect/sql-pg"
import { assert, describe, layer } from "@effect/vitest"
import { Array, Cause, DateTime, Effect, Exit, Fiber, Layer, Queue, Schema, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import * as Task from "../src/Task.ts"
import * as TaskEvent from "../src/TaskEvent.ts"
import * as TaskQueue from "../src/TaskQueue.ts"
import { TestDatabase } from "./support/TestDatabase.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { after: Schema.BigInt }) {}

class Write extends Task.make("write", {
  success: Schema.Struct({ words: Schema.BigInt }),
  error: Refused,
  event: Schema.Union([TaskEvent.TextDelta, Schema.TaggedStruct("page", { at: Schema.DateTimeUtc })])
}) {}

class Plain extends Task.make("plain") {}

// Under the test clock no second passes, so what wakes a reader here is a notification.
const database = TaskQueue.layer.pipe(Layer.provideMerge(TestDatabase.layerSql()))

const enqueue = Effect.fnUntraced(function*(task: typeof Write | typeof Plain) {
  const queue = yield* TaskQueue.TaskQueue
  return (yield* queue.enqueue(task as typeof Plain, undefined)).id
})

const claim = Effect.fnUntraced(function*(id: Task.TaskId) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    update spindle.tasks
       set status = 'processing', epoch = epoch + 1, attempts = attempts + 1, started_at = '2026-01-02T03:04:05Z',
           locked_by = 'worker', lease_expires_at = now() + interval '1 minute',
           result = null, error = null, finished_at = null
     where id = ${id} and status = 'queued'`
})

const emit = Effect.fnUntraced(function*(
  id: Task.TaskId,
  from: number,
  events: ReadonlyArray<{ readonly _tag: string; readonly [key: string]: unknown }>,
  notify = true
) {
  const sql = yield* SqlClient.SqlClient
  for (const [n, { _tag, ...data }] of events.entries()) {
    yield* sql`
      insert into spindle.task_events (task_id, epoch, seq, type, data)
      select id, epoch, ${from + n}, ${_tag}, ${JSON.stringify(data)}::jsonb from spindle.tasks where id = ${id}`
  }
  if (notify) yield* sql`select pg_notify('spindle_task_events', ${`1,${id}`})`
})

const settle = Effect.fnUntraced(function*(
  id: Task.TaskId,
  outcome: {
    readonly status?: TaskQueue.Status
    readonly result?: Schema.Json
    readonly error?: Schema.Json
    readonly closing?: { readonly seq: number; readonly _tag: string; readonly [key: string]: unknown }
    readonly notify?: boolean
  } = {}
) {
  const sql = yield* SqlClient.SqlClient
  const { closing, error = null, notify = true, result = null, status = "completed" } = outcome
  const { _tag = null, seq = 0, ...data } = closing ?? {}
  yield* sql`
    with settled as (
      update spindle.tasks
         set status = case when status = 'cancelled' then status else ${status} end,
             locked_by = null, lease_expires_at = null, finished_at = now(),
             result = ${PgTypes.jsonb(result)}, error = nullif(${PgTypes.jsonb(error)}, 'null'::jsonb)
       where id = ${id} and status in ('processing', 'cancelled') and locked_by = 'worker'
      returning id, epoch
    ), closed as (
      insert into spindle.task_events (task_id, epoch, seq, type, data)
      select id, epoch, ${seq}, ${PgTypes.text(_tag)}, ${JSON.stringify(data)}::jsonb
        from settled where ${PgTypes.text(_tag)} is not null
    )
    select pg_notify('spindle_task_events', id::text) from settled where ${notify}`
})

const listeners = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{ readonly pid: number }>`
    select pid from pg_stat_activity
     where application_name = 'spindle listener' and datname = current_database() and query like 'LISTEN%'`
})

const listening = Effect.repeat(listeners, { until: (rows) => rows.length === 1 })

const failure = (fields?: Partial<TaskEvent.Failure>): TaskEvent.Failure => ({
  kind: "failure",
  tag: "Refused",
  message: "no",
  ...fields
})

const text = (...texts: ReadonlyArray<string>) => texts.map((text) => ({ _tag: "text_delta", text }))

const tell = <A extends { readonly position: TaskEvent.Position }>(events: Iterable<A>, what: (event: A) => unknown) =>
  Array.fromIterable(events).map((event) => `${event.position.epoch}-${event.position.seq} ${what(event)}`)

const toldBy = ({ event }: TaskQueue.Followed<typeof Write>) => event._tag === "text_delta" ? event.text : event._tag

const collect = (id: Task.TaskId, after?: TaskEvent.Position) =>
  Effect.gen(function*() {
    const queue = yield* TaskQueue.TaskQueue
    return tell(yield* Stream.runCollect(queue.follow(Write, id, { after })), toldBy)
  })

describe("await", () => {
  layer(database)((it) => {
    it.effect("of a task that is over reads how it ended, and listens to nothing", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const end = Effect.fnUntraced(function*(outcome: Parameters<typeof settle>[1]) {
          const id = yield* enqueue(Write)
          yield* claim(id)
          yield* settle(id, outcome)
          return yield* queue.await(Write, id)
        })
        assert.deepStrictEqual(yield* end({ result: { words: "12" } }), Exit.succeed({ words: 12n }))

        const refused = yield* end({
          status: "failed",
          error: failure({ data: { _tag: "Refused", after: "60" } })
        })
        if (Exit.isSuccess(refused)) return assert.fail("succeeded")
        const error = Cause.findErrorOption(refused.cause)
        assert.isTrue(error._tag === "Some" && error.value instanceof Refused)
        assert.deepStrictEqual(error._tag === "Some" && error.value.after, 60n)

        for (const stored of [failure({ kind: "timeout" }), failure({ kind: "defect", data: 1 }), failure()]) {
          assert.deepStrictEqual(yield* end({ status: "failed", error: stored }), Exit.die(stored))
        }
        assert.deepStrictEqual(
          yield* end({ status: "failed" }),
          Exit.die({ kind: "failure", tag: "Unknown", message: "The task failed without a reason" })
        )
        const cancelled = yield* end({ status: "cancelled" })
        assert.isTrue(Exit.isFailure(cancelled) && Cause.hasInterruptsOnly(cancelled.cause))

        assert.lengthOf(yield* listeners, 0)
      }))

    it.effect("of a task without a result is void", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Plain)
        yield* claim(id)
        yield* settle(id)
        assert.deepStrictEqual(yield* queue.await(Plain, id), Exit.void)
      }))

    it.effect("fails where it cannot know", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const missing = 2n ** 62n as Task.TaskId
        const id = yield* enqueue(Write)
        const of = (task: typeof Write | typeof Plain, id: Task.TaskId) =>
          Effect.flip(queue.await(task as typeof Plain, id))
        assert.strictEqual((yield* of(Write, missing)).message, `There is no task ${missing}`)
        assert.strictEqual((yield* of(Plain, id)).message, `Task ${id} is of the type "write", not "plain"`)
        yield* claim(id)
        yield* settle(id, { result: { words: true } })
        const { message, reason } = yield* of(Write, id)
        assert.strictEqual(reason._tag, "Unreadable")
        assert.match(
          message,
          new RegExp(`^What is stored of task ${id} does not fit the definition given: Expected .*`)
        )
        const alien = yield* enqueue(Write)
        yield* claim(alien)
        yield* settle(alien, { status: "failed", error: failure({ data: { _tag: "Unheard" } }) })
        assert.strictEqual((yield* of(Write, alien)).reason._tag, "Unreadable")
      }))
  })

  layer(database)((it) => {
    it.effect("shares one connection among all who wait, wakes each when its task is over, and gives it back", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const ids = yield* Effect.forEach(Array.range(1, 50), () => enqueue(Write))
        const done = yield* Queue.unbounded<number>()
        const waiting = yield* Effect.forEach(
          ids,
          (id, n) => Effect.forkChild(Effect.tap(queue.await(Write, id), Queue.offer(done, n)))
        )
        yield* listening
        for (const [n, id] of ids.entries()) {
          yield* claim(id)
          yield* emit(id, 1, text("…"))
          yield* settle(id, { result: { words: `${n}` } })
          assert.strictEqual(yield* Queue.take(done), n)
        }
        assert.deepStrictEqual(
          yield* Effect.forEach(waiting, Fiber.join),
          Array.makeBy(50, (n) => Exit.succeed({ words: BigInt(n) }))
        )
        yield* TestClock.adjust("10 seconds")
        yield* TestClock.adjust("10 seconds")
        yield* Effect.repeat(listeners, { until: (rows) => rows.length === 0 })
      }))
  })

  layer(database)((it) => {
    it.effect("one after the other uses the same connection", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const used = new Set<number>()
        for (let n = 0; n < 5; n++) {
          const id = yield* enqueue(Plain)
          yield* claim(id)
          const waiting = yield* Effect.forkChild(queue.await(Plain, id))
          for (const { pid } of yield* listening) used.add(pid)
          yield* settle(id)
          yield* Fiber.join(waiting)
        }
        assert.strictEqual(used.size, 1)
      }))
  })

  layer(database)((it) => {
    it.effect("reads the result alone, however large payload and row are", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Write)
        yield* sql`update spindle.tasks set payload = to_jsonb(repeat('p', 9 * 1024 * 1024)) where id = ${id}`
        yield* claim(id)
        yield* settle(id, { result: { words: "1", rest: "r".repeat(9 * 1024 * 1024) } })
        assert.deepStrictEqual(yield* queue.await(Write, id), Exit.succeed({ words: 1n }))
        const { message, reason } = yield* Effect.flip(queue.get(id))
        assert.strictEqual(reason._tag, "Refused")
        assert.match(message, /larger than the connection reads at once.*maxMessageSize/)
      }))
  })

  layer(database, { excludeTestServices: true })((it) => {
    it.effect("of many costs a few statements when their connections are lost, and fails none", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const ids = (yield* queue.enqueueMany(Plain, Array.makeBy(300, () => ({ payload: undefined })))).map(({ id }) =>
          id
        )
        const waiting = yield* Effect.forEach(ids, (id) => Effect.forkChild(queue.await(Plain, id)))
        yield* listening
        // Nobody reads for itself: the application's client is held for as long as all of them wait.
        yield* sql`select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name like 'spindle%' and pid <> pg_backend_pid()`
        yield* sql`update spindle.tasks set status = 'completed', result = 'null', finished_at = now()`
        assert.deepStrictEqual(yield* Effect.forEach(waiting, Fiber.join), ids.map(() => Exit.void))
      }))
  })

  layer(database)((it) => {
    it.effect("of a cancelled task waits until its handler has unwound", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Write)
        yield* claim(id)
        const waiting = yield* Effect.forkChild(queue.await(Write, id))
        yield* listening
        yield* queue.cancel(id)
        yield* TestClock.adjust("3 seconds")
        assert.isUndefined(waiting.pollUnsafe())
        yield* settle(id)
        const exit = yield* Fiber.join(waiting)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      }))
  })

  layer(database)((it) => {
    it.effect("needs no notification: it looks every second", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Plain)
        yield* claim(id)
        const waiting = yield* Effect.forkChild(queue.await(Plain, id))
        yield* listening
        yield* settle(id, { notify: false })
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(waiting), Exit.void)
      }))
  })

  layer(database)((it) => {
    it.effect("tells of a task that was deleted meanwhile", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Plain)
        const waiting = yield* Effect.forkChild(Effect.flip(queue.await(Plain, id)))
        yield* listening
        yield* sql`delete from spindle.tasks where id = ${id}`
        yield* sql`select pg_notify('spindle_task_events', '*')`
        assert.strictEqual((yield* Fiber.join(waiting)).reason._tag, "NotFound")
      }))
  })

  layer(database, { excludeTestServices: true })((it) => {
    it.effect("and follow go on when their connection is terminated", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Write)
        yield* claim(id)
        const waiting = yield* Effect.forkChild(queue.await(Write, id))
        const seen = yield* Queue.unbounded<string>()
        const following = yield* Effect.forkChild(
          Stream.runForEach(queue.follow(Write, id), (followed) => Queue.offer(seen, toldBy(followed)))
        )
        for (const [n, told] of ["one", "two", "three"].entries()) {
          const [first] = yield* listening
          yield* sql`select pg_terminate_backend(${first!.pid})`
          yield* emit(id, n + 1, text(told))
          assert.strictEqual(yield* Queue.take(seen), told)
        }
        yield* settle(id, { result: { words: "3" }, closing: { seq: 4, _tag: "done" } })
        assert.deepStrictEqual(yield* Fiber.join(waiting), Exit.succeed({ words: 3n }))
        yield* Fiber.join(following)
        assert.strictEqual(yield* Queue.take(seen), "done")
      }))
  })
})

describe("follow", () => {
  layer(database)((it) => {
    it.effect("tells every event once and in order, as it comes, across retries and workers", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Write)
        const seen = yield* Queue.unbounded<TaskQueue.Followed<typeof Write>>()
        const following = yield* Effect.forkChild(
          Stream.runForEach(queue.follow(Write, id), (followed) => Queue.offer(seen, followed))
        )
        yield* listening
        const next = (n: number) => Effect.map(Queue.takeN(seen, n), (events) => tell(events, toldBy))

        yield* claim(id)
        yield* emit(id, 1, [...text("a"), { _tag: "progress", fraction: 0.5 }])
        assert.deepStrictEqual(yield* next(2), ["1-1 a", "1-2 progress"])
        yield* emit(id, 3, [{ _tag: "retry", ...failure(), willRetry: true, runAt: "2026-01-02T03:04:05.000Z" }])
        assert.deepStrictEqual(yield* next(1), ["1-3 retry"])
        yield* sql`update spindle.tasks set status = 'queued', locked_by = null where id = ${id}`
        yield* claim(id)
        yield* emit(id, 1, [{ _tag: "page", at: "2026-01-02T03:04:05.000Z" }])
        const [page] = yield* Queue.takeN(seen, 1)
        assert.deepStrictEqual(page, {
          position: { epoch: 2n, seq: 1 },
          event: { _tag: "page", at: DateTime.makeUnsafe("2026-01-02T03:04:05Z") }
        })
        assert.isUndefined(following.pollUnsafe())
        yield* settle(id, { result: { words: "1" }, closing: { seq: 2, _tag: "done", worker: "w" } })
        assert.deepStrictEqual(yield* next(1), ["2-2 done"])
        yield* Fiber.join(following)
        yield* TestClock.adjust("10 seconds")
        yield* TestClock.adjust("10 seconds")
        yield* Effect.repeat(listeners, { until: (rows) => rows.length === 0 })
      }))
  })

  layer(database)((it) => {
    it.effect("reads more events than a page holds, from any position", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const id = yield* enqueue(Write)
        yield* claim(id)
        yield* sql`
          insert into spindle.task_events (task_id, epoch, seq, type, data)
          select ${id}, 1, n, 'text_delta', jsonb_build_object('text', n::text) from generate_series(1, 1700) n`
        yield* settle(id, { result: { words: "1" }, closing: { seq: 1701, _tag: "done" } })
        const all = [...Array.range(1, 1700).map((n) => `1-${n} ${n}`), "1-1701 done"]
        assert.deepStrictEqual(yield* collect(id), all)
        for (const seq of [1, 500, 1200, 1201, 1699, 1700, 1701]) {
          assert.deepStrictEqual(yield* collect(id, { epoch: 1n, seq }), all.slice(seq))
        }
        assert.deepStrictEqual(yield* collect(id, { epoch: 9n, seq: 0 }), [])
      }))

    it.effect("makes done from the row where none is stored", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Plain)
        yield* claim(id)
        yield* settle(id)
        const events = yield* Stream.runCollect(queue.follow(Plain, id))
        assert.deepStrictEqual(events, [{
          position: { epoch: 1n, seq: 1 },
          event: {
            _tag: "done",
            startedAt: DateTime.makeUnsafe("2026-01-02T03:04:05Z")
          }
        }])
        assert.deepStrictEqual(yield* Stream.runCollect(queue.follow(Plain, id, { after: events[0]!.position })), [])

        const written = yield* enqueue(Write)
        yield* claim(written)
        yield* emit(written, 1, text("a", "b"))
        yield* settle(written)
        assert.deepStrictEqual(yield* collect(written), ["1-1 a", "1-2 b", "1-3 done"])
        assert.deepStrictEqual(yield* collect(written, { epoch: 1n, seq: 2 }), ["1-3 done"])
        assert.deepStrictEqual(yield* collect(written, { epoch: 1n, seq: 3 }), [])
      }))

    it.effect("makes error from the row of a task that another program has failed", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Plain)
        yield* sql`update spindle.tasks set status = 'failed', error = '"why"' where id = ${id}`
        const [only] = yield* Stream.runCollect(queue.follow(Plain, id))
        assert.deepStrictEqual(only, {
          position: { epoch: 0n, seq: 1 },
          event: { _tag: "error", kind: "failure", tag: "Unknown", message: "\"why\"", willRetry: false }
        })
      }))

    it.effect("of a task that failed, was run again and was cancelled while queued, without the trigger, waits for its end", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Write)
        yield* claim(id)
        yield* settle(id, {
          status: "failed",
          error: failure(),
          closing: { seq: 1, _tag: "error", ...failure(), willRetry: false }
        })
        yield* sql`alter table spindle.tasks disable trigger tasks_cancel`
        yield* queue.retry(id)
        yield* sql`update spindle.tasks set status = 'cancelled' where id = ${id}`
        yield* sql`alter table spindle.tasks enable trigger tasks_cancel`
        const following = yield* Effect.forkChild(collect(id))
        yield* listening
        yield* sql`update spindle.tasks set epoch = epoch + 1, finished_at = now() where id = ${id}`
        yield* emit(id, 1, [{ _tag: "cancelled" }])
        assert.deepStrictEqual(yield* Fiber.join(following), ["1-1 error", "2-1 cancelled"])
      }))

    it.effect("of a task cancelled while queued is its one event", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Write)
        yield* queue.cancel(id)
        assert.deepStrictEqual(yield* collect(id), ["1-1 cancelled"])
      }))

    it.effect("of a task that was run again goes on from an older position to its second end", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Write)
        yield* claim(id)
        yield* emit(id, 1, text("first"))
        yield* settle(id, {
          status: "failed",
          error: failure(),
          closing: { seq: 2, _tag: "error", ...failure(), willRetry: false }
        })
        const once = ["1-1 first", "1-2 error"]
        assert.deepStrictEqual(yield* collect(id), once)
        assert.strictEqual(yield* queue.retry(id), "queued")
        yield* claim(id)
        yield* emit(id, 1, text("second"))
        yield* settle(id, { result: { words: "1" }, closing: { seq: 2, _tag: "done" } })
        const twice = [...once, "2-1 second", "2-2 done"]
        assert.deepStrictEqual(yield* collect(id), twice)
        assert.deepStrictEqual(yield* collect(id, { epoch: 1n, seq: 1 }), twice.slice(1))
        assert.deepStrictEqual(yield* collect(id, { epoch: 1n, seq: 2 }), twice.slice(2))
        assert.deepStrictEqual(yield* collect(id, { epoch: 2n, seq: 2 }), [])
      }))

    it.effect("of a task that was run again and cancelled, and that nobody has closed yet, waits for that", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Write)
        yield* claim(id)
        yield* settle(id, {
          status: "failed",
          error: failure(),
          closing: { seq: 1, _tag: "error", ...failure(), willRetry: false }
        })
        yield* sql`alter table spindle.tasks disable trigger user`
        yield* sql`update spindle.tasks set status = 'queued', attempts = 0, run_at = now() where id = ${id}`
        yield* sql`update spindle.tasks set status = 'cancelled' where id = ${id}`
        yield* sql`alter table spindle.tasks enable trigger user`
        const close = Effect.orDie(sql`with closed as (
            update spindle.tasks set epoch = 2, finished_at = now() where id = ${id} returning id)
          insert into spindle.task_events (task_id, epoch, seq, type, data) select id, 2, 1, 'cancelled', '{}' from closed`)
        const events = yield* queue.events(id).pipe(
          Stream.tap(({ type }) => type === "error" ? close : Effect.void),
          Stream.runCollect
        )
        assert.deepStrictEqual(tell(events, ({ type }) => type), ["1-1 error", "2-1 cancelled"])
      }))

    it.effect("fails where it cannot read", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Write)
        yield* claim(id)
        yield* emit(id, 1, [...text("fine"), { _tag: "unheard" }])
        yield* settle(id, { closing: { seq: 3, _tag: "done" } })
        const seen: Array<string> = []
        const error = yield* queue.follow(Write, id).pipe(
          Stream.runForEach((followed) => Effect.sync(() => seen.push(toldBy(followed)))),
          Effect.flip
        )
        assert.strictEqual(error.reason._tag, "Unreadable")
        assert.deepStrictEqual(seen, ["fine"])
        assert.deepStrictEqual((yield* Effect.flip(Stream.runCollect(queue.follow(Plain, id)))).reason, {
          _tag: "WrongType",
          id,
          expected: "plain",
          actual: "write"
        })
        const missing = 2n ** 62n as Task.TaskId
        assert.deepStrictEqual((yield* Effect.flip(Stream.runCollect(queue.follow(Plain, missing)))).reason, {
          _tag: "NotFound",
          id: missing
        })
        const raw = yield* Stream.runCollect(queue.events(id))
        assert.deepStrictEqual(raw.map(({ data, type }) => [type, data]), [
          ["text_delta", { text: "fine" }],
          ["unheard", {}],
          ["done", {}]
        ])
        assert.deepStrictEqual(
          tell(yield* Stream.runCollect(queue.events(id, { after: { epoch: 1n, seq: 1 } })), ({ type }) => type),
          [
            "1-2 unheard",
            "1-3 done"
          ]
        )
      }))
  })

  layer(database)((it) => {
    it.effect("needs no notification: it looks every second", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Write)
        yield* claim(id)
        const following = yield* Effect.forkChild(Stream.runCollect(queue.follow(Write, id)))
        yield* listening
        yield* emit(id, 1, text("a"), false)
        yield* TestClock.adjust("1 second")
        yield* settle(id, { closing: { seq: 2, _tag: "done" }, notify: false })
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(tell(yield* Fiber.join(following), toldBy), ["1-1 a", "1-2 done"])
      }))
  })

  layer(database, { excludeTestServices: true })((it) => {
    it.effect("loses nothing and repeats nothing while ten write, run again and are read from the middle", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const tell = Effect.fnUntraced(function*(id: Task.TaskId) {
          const all: Array<string> = []
          let after: TaskEvent.Position | undefined
          // a reader that leaves after every seventh event and comes back
          while (all.at(-1)?.endsWith("done") !== true) {
            yield* queue.follow(Write, id, { after }).pipe(
              Stream.take(7),
              Stream.runForEach((followed) =>
                Effect.sync(() => {
                  after = followed.position
                  all.push(`${after.epoch}-${after.seq} ${toldBy(followed)}`)
                })
              )
            )
          }
          return all
        })
        const work = Effect.fnUntraced(function*(id: Task.TaskId) {
          for (let seq = 1; seq <= 40; seq++) {
            if (seq === 1) yield* claim(id)
            yield* emit(id, seq, text(`${seq}`))
          }
          yield* settle(id, { closing: { seq: 41, _tag: "done" } })
        })
        const ids = yield* Effect.forEach(Array.range(1, 10), () => enqueue(Write))
        const [told] = yield* Effect.all([
          Effect.forEach(ids, tell, { concurrency: "unbounded" }),
          Effect.forEach(ids, work, { concurrency: 5 })
        ], { concurrency: 2 })
        const expected = [...Array.range(1, 40).map((n) => `1-${n} ${n}`), "1-41 done"]
        for (const all of told) assert.deepStrictEqual(all, expected)
      }))
  })

  layer(
    Layer.fresh(TaskQueue.layer).pipe(
      Layer.provideMerge(TestDatabase.layerSql({ maxConnections: 1 }))
    )
  )((it) => {
    it.effect("leaves the application's only connection to the application", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const queue = yield* TaskQueue.TaskQueue
        const id = yield* enqueue(Write)
        yield* claim(id)
        const following = yield* Effect.forkChild(Stream.runCollect(queue.follow(Write, id)))
        yield* listening
        const [row] = yield* sql.withTransaction(sql<{ readonly one: number }>`select 1 as one`)
        assert.strictEqual(row!.one, 1)
        yield* settle(id, { closing: { seq: 1, _tag: "done" } })
        assert.lengthOf(yield* Fiber.join(following), 1)
      }))
  })
})
