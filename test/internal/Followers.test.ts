import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Array, Effect, Fiber, Latch, Layer, Queue, Redacted, Stream } from "effect"
import { TestClock } from "effect/testing"
import type * as Task from "../../src/Task.ts"
import * as TaskQueue from "../../src/TaskQueue.ts"
import * as FaultProxy from "../support/FaultProxy.ts"
import * as StatementCounter from "../support/StatementCounter.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

const withQueue = Layer.provideMerge(TaskQueue.layer, TestDatabase.layerSql())

/** A queue whose every statement is counted. The test's own go the direct way. */
const counted = Effect.fnUntraced(function*(maxConnections = 4) {
  const counter = yield* StatementCounter.make((yield* TestDatabase).url)
  const context = yield* Layer.build(
    Layer.fresh(TaskQueue.layer).pipe(Layer.provideMerge(PgClient.layer({ url: counter.url, maxConnections })))
  )
  return { counter, queue: yield* Effect.provideContext(TaskQueue.TaskQueue, context), context }
})

/** Lets input and output happen, whatever the clock of the test says. */
const turn = Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 5)))

const until = (predicate: () => boolean) => Effect.repeat(turn, { until: predicate })

/** Waits until all that was sent is answered and nothing more has been sent for a while, and tells how many there were. */
const settled = Effect.fnUntraced(function*({ idle, statements }: StatementCounter.StatementCounter) {
  let last = -1
  for (let same = 0; same < 20;) {
    yield* turn
    same = idle() && statements() === last ? same + 1 : 0
    last = statements()
  }
  return last
})

const tasks = Effect.fnUntraced(function*(count: number) {
  const sql = yield* PgClient.PgClient
  const rows = yield* sql<{ readonly id: Task.TaskId }>`
    insert into spindle.tasks (type, status, epoch, locked_by)
    select 'story', 'processing', 1, 'w' from generate_series(1, ${count}::int) returning id`
  return rows.map(({ id }) => id)
})

const emit = Effect.fnUntraced(function*(ids: ReadonlyArray<bigint>, seq: number, notify = true) {
  const sql = yield* PgClient.PgClient
  yield* sql`
    with said as (
      insert into spindle.task_events (task_id, epoch, seq, type, data)
      select id, 1, ${seq}, 'text_delta', '{"text": "…"}' from unnest(${ids}::bigint[]) id
      returning task_id
    )
    select pg_notify('spindle_task_events', string_agg(task_id::text, ',')) from said where ${notify}`
})

const finish = Effect.fnUntraced(function*(ids: ReadonlyArray<bigint>) {
  const sql = yield* PgClient.PgClient
  yield* sql`update spindle.tasks set status = 'completed', locked_by = null where id = any(${ids})`
  yield* sql`select pg_notify('spindle_task_events', '*')`
})

/** Waits until the followers have their own connection. */
const connected = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  yield* Effect.repeat(
    sql`select from pg_stat_activity where datname = current_database() and application_name = 'spindle'`,
    { until: (rows) => rows.length === 1 }
  )
})

const follow = Effect.fnUntraced(function*(
  queue: TaskQueue.TaskQueue["Service"],
  ids: ReadonlyArray<Task.TaskId>,
  seen: (id: Task.TaskId, seq: number) => void
) {
  return yield* Effect.forEach(ids, (id) =>
    Effect.forkScoped(
      Stream.runForEach(queue.events(id), ({ position }) => Effect.sync(() => seen(id, position.seq)))
    ))
})

describe("1,000 followers in a process", () => {
  it.effect(
    "cost two connections, one statement a second, and one read for what comes at once",
    () =>
      Effect.gen(function*() {
        const { context, counter, queue } = yield* counted()
        const sql = yield* PgClient.PgClient
        const ids = yield* tasks(50)
        const seen = new Map(ids.map((id): [bigint, number] => [id, 0]))
        const count = (id: bigint) => seen.set(id, seen.get(id)! + 1)
        const ten = yield* follow(queue, ids.slice(0, 10), count)
        yield* settled(counter)
        const idle = Effect.fnUntraced(function*() {
          const before = yield* settled(counter)
          for (let n = 0; n < 10; n++) {
            yield* TestClock.adjust("1 second")
            yield* settled(counter)
          }
          return counter.statements() - before
        })
        // one look a second, and the listener's own probe every five
        assert.isAtMost(yield* idle(), 13)

        const many = yield* follow(queue, Array.flatMap(Array.range(1, 20), () => ids), count)
        yield* settled(counter)
        assert.isAtMost(yield* idle(), 13)
        const connections = yield* sql<{ readonly name: string }>`
        select application_name as name from pg_stat_activity
         where datname = current_database() and application_name like 'spindle%' order by 1`
        assert.deepStrictEqual(connections.map(({ name }) => name), ["spindle", "spindle listener"])

        const before = yield* settled(counter)
        yield* emit(ids, 1)
        yield* until(() => [...seen].every(([id, n]) => n === (ids.indexOf(id as Task.TaskId) < 10 ? 21 : 20)))
        assert.isAtMost((yield* settled(counter)) - before, 2)

        // nothing is looked for within five seconds of a notice
        const quiet = yield* settled(counter)
        yield* TestClock.adjust("4 seconds")
        assert.isAtMost((yield* settled(counter)) - quiet, 2)

        yield* finish(ids)
        yield* Effect.forEach([...ten, ...many], Fiber.join)
        yield* TestClock.adjust("10 seconds")
        yield* TestClock.adjust("10 seconds")
        yield* until(() => counter.connections() <= 4)
        const left = yield* Effect.provideContext(
          Effect.flatMap(PgClient.PgClient, (sql) => sql`select 1`),
          context
        )
        assert.lengthOf(left, 1)
        yield* Effect.repeat(
          sql`select from pg_stat_activity where datname = current_database() and application_name like 'spindle%'`,
          { until: (rows) => rows.length === 0 }
        )
      }).pipe(Harness.onDatabase),
    60_000
  )
})

describe("a follower that does not take", () => {
  it.live("is not read for, holds up nobody, and loses nothing", () =>
    Effect.gen(function*() {
      const { counter, queue } = yield* counted()
      const [slow, quick] = (yield* tasks(2)) as [Task.TaskId, Task.TaskId]
      const latch = Latch.makeUnsafe()
      const first = Latch.makeUnsafe()
      const taken: Array<number> = []
      const following = yield* queue.events(slow).pipe(
        Stream.runForEach(({ position }) =>
          Effect.andThen(
            Effect.sync(() => {
              taken.push(position.seq)
              first.openUnsafe()
            }),
            latch.await
          )
        ),
        Effect.forkScoped
      )
      yield* emit([slow], 1)
      yield* first.await
      const before = yield* settled(counter)
      yield* Effect.forEach(Array.range(2, 700), (seq) => emit([slow], seq), { concurrency: 5 })
      assert.isAtMost((yield* settled(counter)) - before, 5)

      const others = yield* Queue.unbounded<number>()
      yield* Effect.forkScoped(
        Stream.runForEach(queue.events(quick), ({ position }) => Queue.offer(others, position.seq))
      )
      for (const seq of [1, 2, 3]) {
        yield* emit([quick], seq)
        assert.strictEqual(yield* Queue.take(others), seq)
      }
      assert.deepStrictEqual(taken, [1])

      yield* latch.open
      yield* finish([slow])
      yield* Fiber.join(following)
      assert.deepStrictEqual(taken, Array.range(1, 701))
    }).pipe(Harness.onDatabase))
})

describe("a follower", () => {
  it.live("is told although the application's only connection is taken", () =>
    Effect.gen(function*() {
      const { context, queue } = yield* counted(1)
      const ids = yield* tasks(1)
      const seen = yield* Queue.unbounded<number>()
      yield* follow(queue, ids, (_, seq) => Queue.offerUnsafe(seen, seq))
      yield* emit(ids, 1)
      assert.strictEqual(yield* Queue.take(seen), 1)
      const busy = Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        yield* sql.withTransaction(Effect.gen(function*() {
          yield* sql`select 1`
          for (const seq of [2, 3]) {
            yield* Effect.provide(emit(ids, seq), TestDatabase.layerClient())
            assert.strictEqual(yield* Queue.take(seen), seq)
          }
        }))
      })
      yield* Effect.provideContext(busy, context)
    }).pipe(Harness.onDatabase))

  it.effect("finds by itself what no notice told of, within five seconds of one", () =>
    Effect.gen(function*() {
      const { counter, queue } = yield* counted()
      const ids = yield* tasks(3)
      const seen = yield* Queue.unbounded<number>()
      yield* follow(queue, ids, (_, seq) => Queue.offerUnsafe(seen, seq))
      yield* settled(counter)
      yield* emit(ids.slice(0, 1), 1)
      assert.strictEqual(yield* Queue.take(seen), 1)
      yield* emit(ids.slice(1), 2, false)
      yield* settled(counter)
      // the look that was under way when the first notice came, and the next
      yield* TestClock.adjust("1 second")
      yield* settled(counter)
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* Queue.takeN(seen, 2), [2, 2])
    }).pipe(Harness.onDatabase))

  it.live("of events larger than a read has room for gets all of them, with others beside it", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const queue = yield* TaskQueue.TaskQueue
      const ids = yield* tasks(12)
      const seen = new Map<bigint, Array<number>>(ids.map((id) => [id, []]))
      const told = yield* Queue.unbounded<bigint>()
      const following = yield* follow(queue, ids, (id, seq) => {
        seen.get(id)!.push(seq)
        Queue.offerUnsafe(told, id)
      })
      yield* connected
      for (const seq of [1, 2]) {
        yield* sql`
          insert into spindle.task_events (task_id, epoch, seq, type, data)
          select id, 1, ${seq}, 'text_delta', jsonb_build_object('text', repeat('x', 3000000)) from unnest(${ids}::bigint[]) id`
      }
      yield* sql`select pg_notify('spindle_task_events', ${ids.join()})`
      yield* Queue.takeN(told, 24)
      yield* finish(ids)
      yield* Effect.forEach(following, Fiber.join)
      for (const id of ids) assert.deepStrictEqual(seen.get(id), [1, 2, 3])
    }).pipe(Effect.scoped, Effect.provide(withQueue)))

  it.effect("that is busy with an event is read for after a notice that names nobody", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const { counter, queue } = yield* counted()
      const ids = yield* tasks(1)
      const proceed = Latch.makeUnsafe()
      const seen = yield* Queue.unbounded<number>()
      yield* queue.events(ids[0]!).pipe(
        Stream.runForEach(({ position }) => Effect.andThen(Queue.offer(seen, position.seq), proceed.await)),
        Effect.forkScoped
      )
      yield* settled(counter)
      yield* emit(ids, 1)
      assert.strictEqual(yield* Queue.take(seen), 1)
      yield* settled(counter)
      yield* emit(ids, 2, false)
      yield* sql`select pg_notify('spindle_task_events', '*')`
      yield* settled(counter)
      yield* proceed.open
      assert.strictEqual(yield* Queue.take(seen), 2)
    }).pipe(Harness.onDatabase))

  it.effect("is looked for every second again when notices no longer arrive", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const counter = yield* StatementCounter.make((yield* TestDatabase).url)
      const { hostname, port } = new URL(Redacted.value(counter.url))
      const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
      const context = yield* Layer.build(
        Layer.fresh(TaskQueue.layer).pipe(Layer.provide(PgClient.layer({ url: proxy.url(counter.url) })))
      )
      const queue = yield* Effect.provideContext(TaskQueue.TaskQueue, context)
      const ids = yield* tasks(1)
      const seen = yield* Queue.unbounded<number>()
      yield* follow(queue, ids, (_, seq) => Queue.offerUnsafe(seen, seq))
      yield* settled(counter)
      yield* emit(ids, 1)
      assert.strictEqual(yield* Queue.take(seen), 1)
      // the look that was under way; from now on there is one every five seconds
      yield* TestClock.adjust("1 second")
      yield* settled(counter)
      yield* proxy.refuse(true)
      const connections = counter.connections()
      yield* sql`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'spindle listener'`
      yield* until(() => counter.connections() < connections)
      yield* settled(counter)
      yield* emit(ids, 2, false)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Queue.take(seen), 2)
    }).pipe(Harness.onDatabase))

  it.effect("refuses a position that no event can have", () =>
    Effect.gen(function*() {
      const queue = yield* TaskQueue.TaskQueue
      const [id] = (yield* tasks(1)) as [Task.TaskId]
      for (const after of [{ epoch: 2n ** 63n, seq: 0 }, { epoch: -1n, seq: 0 }, { epoch: 1n, seq: 0.5 }]) {
        const error = yield* Effect.flip(Stream.runDrain(queue.events(id, { after })))
        assert.strictEqual(
          error.message,
          `Invalid option: after is ${after.epoch}-${after.seq}, ` +
            "expected an epoch below 2^63 and a seq below 2^31, such as 1-17"
        )
      }
    }).pipe(Effect.scoped, Effect.provide(withQueue)))

  for (const fault of ["refuse", "blackhole"] as const) {
    it.live(`outlives an absence of the database (${fault})`, () =>
      Effect.gen(function*() {
        const { url } = yield* TestDatabase
        const { hostname, port } = new URL(Redacted.value(url))
        const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
        const context = yield* Layer.build(
          Layer.fresh(TaskQueue.layer).pipe(Layer.provide(PgClient.layer({ url: proxy.url(url) })))
        )
        const queue = yield* Effect.provideContext(TaskQueue.TaskQueue, context)
        const ids = yield* tasks(20)
        const seen = yield* Queue.unbounded<number>()
        const following = yield* follow(queue, ids, (_, seq) => Queue.offerUnsafe(seen, seq))
        yield* emit(ids, 1)
        assert.deepStrictEqual(yield* Queue.takeN(seen, 20), Array.makeBy(20, () => 1))
        yield* connected
        const away = (on: boolean) =>
          fault === "blackhole" ? proxy.blackhole(on) : Effect.andThen(proxy.refuse(on), proxy.killAll)
        yield* away(true)
        yield* emit(ids, 2)
        yield* Effect.sleep("1500 millis")
        assert.strictEqual(yield* Queue.size(seen), 0)
        // who begins now is told that it is away
        if (fault === "refuse") {
          const error = yield* Effect.flip(Stream.runDrain(queue.events(ids[0]!)))
          assert.strictEqual(error.reason._tag, "Unavailable")
        }
        yield* away(false)
        assert.deepStrictEqual(yield* Queue.takeN(seen, 20), Array.makeBy(20, () => 2))
        yield* finish(ids)
        yield* Effect.forEach(following, Fiber.join)
      }).pipe(Harness.onDatabase), 60_000)
  }

  it.live("fails when the database refuses for good", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const queue = yield* TaskQueue.TaskQueue
      const [id] = (yield* tasks(1)) as [Task.TaskId]
      const following = yield* Effect.forkScoped(Effect.flip(Stream.runDrain(queue.events(id))))
      yield* connected
      yield* sql`alter table spindle.task_events rename to elsewhere`
      yield* sql`select pg_notify('spindle_task_events', ${String(id)})`
      assert.strictEqual((yield* Fiber.join(following)).reason._tag, "Refused")
    }).pipe(Effect.scoped, Effect.provide(withQueue)))
})
