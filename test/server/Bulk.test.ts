import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import type * as Task from "../../src/Task.ts"
import * as HttpServer from "../support/HttpServer.ts"
import * as Harness from "../support/WorkerHarness.ts"

type Server = Effect.Success<ReturnType<typeof HttpServer.serve>>
type Request = Parameters<Server["tasks"]["bulk"]>[0]["payload"]

// Calls until there is nothing left, and adds up what the calls say.
const all = Effect.fnUntraced(function*(server: Server, request: Request) {
  const sum = { changed: 0, unchanged: 0, busy: 0, calls: 0 }
  let before: Task.TaskId | undefined
  do {
    const { next, ...outcome } = yield* server.tasks.bulk({
      payload: { ...request, ...before === undefined ? {} : { before } }
    })
    sum.changed += outcome.changed
    sum.unchanged += outcome.unchanged
    sum.busy += outcome.busy
    sum.calls++
    before = next ?? undefined
  } while (before !== undefined)
  return sum
})

const counts = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  const rows = yield* sql<{ readonly status: string; readonly count: number }>`
    select status, count(*)::int as count from spindle.tasks group by 1 order by 1`
  return Object.fromEntries(rows.map(({ count, status }) => [status, count]))
})

describe("bulk", () => {
  it.live("cancels 3,000 tasks while workers run them, and says how many", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const script = Harness.script()
      const server = yield* HttpServer.serve()
      const ids = yield* Harness.insertMany("plain", 3000)
      // However fast the workers are, there is something left to cancel.
      yield* sql`update spindle.tasks set run_at = now() + interval '1 day' where id = ${ids[2000]!}`
      for (let n = 0; n < 2; n++) {
        yield* Harness.launch(Harness.Tasks, script.handlers, { concurrency: 3 })
      }
      const outcome = yield* all(server, { action: "cancel", filter: { type: "plain" } })
      yield* Harness.awaitAllOver
      yield* Harness.assertContract
      const { cancelled = 0, completed = 0 } = yield* counts
      assert.strictEqual(cancelled + completed, 3000)
      assert.isAbove(cancelled, 0)
      assert.strictEqual(outcome.changed, cancelled)
      const [events] = yield* sql<{ readonly count: number }>`
        select count(*)::int as count from spindle.task_events where type = 'cancelled'`
      assert.strictEqual(events!.count, cancelled)

      const again = yield* all(server, { action: "retry", filter: { status: "cancelled" } })
      assert.strictEqual(again.changed + again.unchanged, cancelled)
      yield* Harness.awaitAllOver
      yield* Harness.assertContract
      assert.strictEqual((yield* counts)["completed"], 3000 - again.unchanged)
    }).pipe(Harness.onDatabase), 120_000)

  it.live("goes on from where a call stopped", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve()
      yield* Harness.insertMany("plain", 6000)
      const outcome = yield* all(server, { action: "cancel", filter: { status: "queued" } })
      assert.deepInclude(outcome, { changed: 6000, unchanged: 0, busy: 0 })
      assert.isAtLeast(outcome.calls, 2)
    }).pipe(Harness.onDatabase), 60_000)

  it.live("refuses a filter that is everything, and a status the action does not apply to", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve()
      const [id] = yield* Harness.insertMany("plain", 2)
      for (const action of ["cancel", "retry"]) {
        const { detail } = yield* HttpServer.problem(yield* server.post("/api/tasks/bulk", { action, filter: {} }), 422)
        assert.include(detail, "filter is empty")
      }
      const { detail } = yield* HttpServer.problem(
        yield* server.post("/api/tasks/bulk", { action: "cancel", filter: { status: "failed" } }),
        422
      )
      assert.include(detail, "queued, processing")
      yield* HttpServer.problem(yield* server.post("/api/tasks/bulk", { action: "delete", filter: {} }), 400)
      const nothing = yield* server.tasks.bulk({ payload: { action: "cancel", filter: { ids: [] } } })
      assert.deepStrictEqual(nothing, { changed: 0, unchanged: 0, busy: 0, next: null })
      const one = yield* server.tasks.bulk({ payload: { action: "cancel", filter: { ids: [id as Task.TaskId] } } })
      assert.strictEqual(one.changed, 1)
      assert.deepStrictEqual(yield* counts, { cancelled: 1, queued: 1 })
    }).pipe(Harness.onDatabase))

  it.live("does not wait for who has locked a task, and tells", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const server = yield* HttpServer.serve()
      const ids = yield* Harness.insertMany("plain", 10)
      const locked = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const holder = yield* sql.withTransaction(
        sql`select from spindle.tasks where id = ${ids[4]!} for update`.pipe(
          Effect.andThen(Deferred.succeed(locked, undefined)),
          Effect.andThen(Deferred.await(release))
        )
      ).pipe(Effect.forkScoped)
      yield* Deferred.await(locked)
      const outcome = yield* all(server, { action: "cancel", filter: { type: "plain" } })
      assert.deepInclude(outcome, { changed: 9, unchanged: 0, busy: 1 })
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(holder)
      assert.deepInclude(yield* all(server, { action: "cancel", filter: { type: "plain" } }), { changed: 1, busy: 0 })
    }).pipe(Harness.onDatabase))

  it.live("runs again all but those whose unique key is taken", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const server = yield* HttpServer.serve()
      yield* sql`insert into spindle.tasks (type, status, unique_key)
                 select 'plain', 'failed', case when n % 10 = 0 then 'k' || n / 20 end from generate_series(1, 100) n`
      yield* sql`insert into spindle.tasks (type, status, locked_by) values ('plain', 'cancelled', 'w')`
      yield* Harness.insert("plain", { unique_key: "k0" })
      const outcome = yield* all(server, { action: "retry", filter: { type: "plain" } })
      // k0 is taken already, k1 to k4 are two tasks each and k5 is one
      assert.deepInclude(outcome, { changed: 95, unchanged: 6, busy: 0 })
      assert.deepStrictEqual(yield* counts, { cancelled: 1, failed: 5, queued: 96 })
    }).pipe(Harness.onDatabase))
})
