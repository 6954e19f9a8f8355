import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Layer, Option, Schema, Stream } from "effect"
import * as Contract from "../../src/storage/Contract.ts"
import * as EventTable from "../../src/storage/EventTable.ts"
import * as Task from "../../src/Task.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"
import * as TaskQueue from "../../src/TaskQueue.ts"
import * as HttpServer from "../support/HttpServer.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

class Told extends Task.make("told", {
  payload: {},
  success: Schema.Struct({ createdAt: Schema.String, runAt: Schema.String })
}) {}

const Group = TaskGroup.make(Told)

const withQueue = Layer.provideMerge(TaskQueue.layer, TestDatabase.layerSql())

const latest = "9999-12-31T23:59:59.999Z"
const earliest = "0001-01-01T00:00:00.000Z"
const times = [
  ["infinity", latest],
  ["294276-12-31 23:59:59.999999", latest],
  ["10000-01-01", latest],
  ["-infinity", earliest],
  ["4714-11-24 BC", earliest],
  ["0044-03-15 BC", earliest]
] as const

describe("a time that others cannot read back", () => {
  it.live("is the first or the last that they can, at every door", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const queue = yield* TaskQueue.TaskQueue
      const server = yield* HttpServer.serve()
      const iso = (time: DateTime.Utc | null) => time && DateTime.formatIso(time)
      for (const [given, shown] of times) {
        const [row] = yield* sql<{ readonly id: Task.TaskId }>`
          insert into spindle.tasks (type, queue, status, epoch, locked_by, run_at, created_at, started_at, finished_at,
                                     lease_expires_at)
          select 'odd', ${given}, status, 1, 'w', t, t, t, t, t
            from unnest('{queued, processing, failed}'::text[]) status, cast(${given} as timestamptz) t
          returning id`
        const { id } = row!
        yield* sql`update spindle.tasks set status = 'failed', locked_by = null where id = ${id}`
        yield* sql`insert into spindle.task_events (task_id, epoch, seq, type, data, created_at)
                   select ${id}, 1, n, (array['text_delta', 'error'])[n], jsonb_build_object('startedAt', t), t
                     from generate_series(1, 2) n, cast(${given} as timestamptz) t`

        const all = { runAt: shown, createdAt: shown, startedAt: shown, finishedAt: shown, leaseExpiresAt: shown }
        const times = (task: TaskQueue.StoredTask) => ({
          runAt: iso(task.runAt),
          createdAt: iso(task.createdAt),
          startedAt: iso(task.startedAt),
          finishedAt: iso(task.finishedAt),
          leaseExpiresAt: iso(task.leaseExpiresAt)
        })
        assert.deepStrictEqual(times(Option.getOrThrow(yield* queue.get(id))), all)
        assert.deepStrictEqual((yield* queue.list({ queue: given })).map(times), [all, all, all])

        const events = yield* Stream.runCollect(queue.events(id))
        assert.deepStrictEqual(events.map(({ createdAt }) => iso(createdAt)), [shown, shown])
        const closings = yield* EventTable.make(sql, "spindle").closings(id)
        assert.deepStrictEqual(closings.map(({ createdAt }) => iso(createdAt)), [shown])

        const { leaseExpiresAt: _, ...listed } = all
        const page = yield* server.tasks.list({ query: { queue: given } })
        for (const task of page.tasks) assert.deepInclude(times({ ...task, leaseExpiresAt: null } as never), listed)
        const detail = yield* server.tasks.get({ params: { id } })
        assert.deepStrictEqual(times(detail as never), all)
        assert.strictEqual(iso(detail.attemptsEnded[0]!.endedAt), shown)
      }
      for (const claim of [true, false]) {
        if (!claim) yield* sql`drop index spindle.tasks_claim_idx`
        const { indexes } = yield* Contract.check(sql, "spindle")
        assert.strictEqual(indexes.claim, claim)
        for (const { oldestDueAgeMs } of (yield* server.overview.get()).queues) {
          assert.isTrue(oldestDueAgeMs === null || Number.isSafeInteger(Math.round(oldestDueAgeMs)))
        }
      }
    }).pipe(Effect.scoped, Effect.provide(withQueue)))

  it.live("is bounded for a handler, in what closes its claim, and in what an insert returns", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`alter table spindle.tasks alter column created_at set default '-infinity'`
      const store = yield* Harness.makeStore
      yield* (yield* TaskQueue.TaskQueue).enqueue(Told, {})
      yield* Harness.launch(
        Group,
        Group.toLayer({
          told: (_, { task: { createdAt, runAt } }) =>
            Effect.succeed({ createdAt: DateTime.formatIso(createdAt), runAt: DateTime.formatIso(runAt) })
        })
      )
      const id = yield* Harness.insert("told", { run_at: "-infinity" })
      assert.deepStrictEqual((yield* Harness.awaitOver(id)).result, { createdAt: earliest, runAt: earliest })

      const held = yield* Harness.insert("elsewhere", {
        status: "cancelled",
        epoch: 1,
        locked_by: "worker",
        started_at: "infinity",
        finished_at: "-infinity"
      })
      assert.deepStrictEqual(yield* store.cancelled("worker", [held]), [
        { id: held, epoch: 1n, cancelledForMillis: null }
      ])
      yield* sql`update spindle.tasks set lease_expires_at = '-infinity' where id = ${held}`
      yield* store.sweep(yield* store.expiring(0, 0n))
      const [event] = yield* Harness.eventsOf(held)
      assert.deepInclude(event!.data, { startedAt: latest.replace("Z", "+00:00") })
    }).pipe(Effect.scoped, Effect.provide(withQueue)))
})
