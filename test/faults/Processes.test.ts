import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Harness from "../support/WorkerHarness.ts"
import * as WorkerProcess from "../support/WorkerProcess.ts"

// A lease that a busy machine does not let expire, and short enough to wait for its end.
const options = { ...Harness.quick, lease: 5000, concurrency: 5 }

const sleepers = (count: number, millis: number) =>
  Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    const rows = yield* sql<{ readonly id: bigint }>`
      insert into spindle.tasks (type, payload)
      select 'sleep', jsonb_build_object('millis', ${millis}::int) from generate_series(1, ${count}::int) returning id`
    return rows.map(({ id }) => id)
  })

const allStarted = (count: number) =>
  Effect.flatMap(PgClient.PgClient, (sql) =>
    Harness.eventually(
      `${count} starts`,
      sql`select from spindle.task_events where type = 'text_delta' and data ->> 'text' = 'started'`,
      (rows) => rows.length === count
    ))

describe("a worker process", () => {
  it.live("that is killed leaves its tasks to another, charged", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* WorkerProcess.createExecutions
      const doomed = yield* WorkerProcess.start(options)
      const ids = yield* sleepers(5, 60_000)
      const cancelled = ids[0]!
      yield* allStarted(5)
      yield* doomed.signal("SIGKILL")
      yield* doomed.exited
      assert.isTrue(yield* Harness.cancel(cancelled))
      yield* sql`update spindle.tasks set payload = '{"millis": 1}'`
      const heir = yield* WorkerProcess.start(options)
      yield* Harness.awaitAllOver
      yield* Harness.assertContract
      assert.deepInclude(yield* Harness.rowOf(cancelled), { status: "cancelled", attempts: 1, epoch: 2n })
      for (const id of ids.slice(1)) {
        assert.deepInclude(yield* Harness.rowOf(id), {
          status: "completed",
          result: heir.workerId,
          attempts: 2,
          epoch: 3n
        })
        const events = yield* Harness.eventsOf(id)
        assert.deepStrictEqual(events.map(({ epoch, seq, type }) => [Number(epoch), seq, type]), [
          [1, 1, "text_delta"],
          [2, 1, "released"],
          [3, 1, "text_delta"],
          [3, 2, "text_delta"],
          [3, 3, "done"]
        ])
      }
    }).pipe(Harness.onDatabase), 60_000)

  it.live("that was suspended for longer than its lease writes nothing when it wakes", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* WorkerProcess.createExecutions
      const zombie = yield* WorkerProcess.start(options)
      // two that end as it wakes, two that would go on
      const ids = [...(yield* sleepers(2, 4000)), ...(yield* sleepers(2, 60_000))]
      yield* allStarted(4)
      yield* zombie.signal("SIGSTOP")
      const other = yield* WorkerProcess.start(options)
      yield* Harness.eventually(
        "the take-over",
        sql`select from spindle.tasks where epoch = 3`,
        (rows) => rows.length === 4
      )
      const facts = sql`select id, status, epoch, locked_by, result from spindle.tasks where id = any(${
        ids.slice(2)
      }) order by id`
      const before = yield* facts
      yield* Harness.eventually(
        "the time at which the first two end",
        sql`select from executions where worker = ${zombie.workerId} and at > now() - interval '4 seconds'`,
        (rows) => rows.length === 0
      )
      yield* zombie.signal("SIGCONT")
      const after = (yield* sleepers(1, 0))[0]!
      yield* Harness.awaitOver(after)
      // it says goodbye in an orderly way: whatever it had to write, it has tried
      yield* zombie.signal("SIGTERM")
      yield* zombie.exited
      assert.deepStrictEqual(yield* facts, before)
      for (const id of ids.slice(0, 2)) assert.strictEqual((yield* Harness.awaitOver(id)).result, other.workerId)
      const events = yield* sql<{ readonly epoch: number; readonly type: string }>`
        select distinct epoch::int, type from spindle.task_events where task_id = any(${ids}) and epoch < 3 order by epoch, type`
      assert.deepStrictEqual(events, [{ epoch: 1, type: "text_delta" }, { epoch: 2, type: "released" }])
      const strangers = yield* sql`
        select from spindle.task_events where epoch = 3 and data->>'worker' = ${zombie.workerId}`
      assert.isEmpty(strangers)
      yield* Harness.assertContract
    }).pipe(Harness.onDatabase), 60_000)

  it.live("that is told to stop puts back what it runs, uncharged, and exits", () =>
    Effect.gen(function*() {
      yield* WorkerProcess.createExecutions
      const worker = yield* WorkerProcess.start({ ...options, shutdownGrace: 5000 })
      const [short] = yield* sleepers(1, 500)
      const [long] = yield* sleepers(1, 60_000)
      yield* allStarted(2)
      yield* worker.signal("SIGTERM")
      yield* worker.exited
      assert.deepInclude(yield* Harness.rowOf(short!), { status: "completed", attempts: 1 })
      assert.deepInclude(yield* Harness.rowOf(long!), { status: "queued", attempts: 0, locked_by: null })
      assert.deepStrictEqual((yield* Harness.eventsOf(long!)).map(({ type }) => type), ["text_delta", "released"])
      yield* Harness.assertContract
    }).pipe(Harness.onDatabase), 60_000)

  it.live("shares 20,000 tasks with another: none runs twice, none is left", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const count = 20_000
      // leases that no loaded machine lets expire
      const own = { concurrency: 40, migrations: "verify" } as const
      const workers = yield* Effect.all([WorkerProcess.start(own), WorkerProcess.start(own)], { concurrency: 2 })
      yield* sql`insert into spindle.tasks (type) select 'count' from generate_series(1, ${count}::int)`
      yield* Harness.awaitAllOver
      assert.deepStrictEqual(
        yield* sql`select status, attempts, epoch::int, count(*)::int from spindle.tasks group by 1, 2, 3`,
        [{ status: "completed", attempts: 1, epoch: 1, count }]
      )
      yield* Effect.forEach(workers, ({ exited, signal }) => Effect.andThen(signal("SIGTERM"), exited))
      const ran = workers.map((worker) => worker.ran)
      assert.isTrue(ran.every(({ length }) => length > 100))
      assert.lengthOf(ran.flat(), count)
      assert.strictEqual(new Set(ran.flat()).size, count)
    }).pipe(Harness.onDatabase), 90_000)
})
