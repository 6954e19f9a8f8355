import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Db from "../../src/Db.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

/** A trigger of the owner's that refuses to change rows with the tag `refused`. */
const refusing = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  yield* sql.unsafe(`create function spindle.refuse() returns trigger language plpgsql as
    $$ begin raise exception 'this one stays as it is'; end $$`)
  yield* sql.unsafe(`create trigger refuse before update on spindle.tasks for each row
    when (old.tag = 'refused' and old.locked_by is not null) execute function spindle.refuse()`)
})

describe("a lease", () => {
  it.live("outlasts a lock that is held for longer than it", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers, { lease: "2 seconds" })
      const id = yield* Harness.insert("scripted", { max_attempts: 1 })
      const { proceed } = yield* script.next(id)
      yield* Db.transaction(
        sql,
        Effect.gen(function*() {
          yield* sql`select from spindle.tasks where id = ${id} for update`
          yield* Harness.eventually(
            "the end of its lease, and sweeps after it",
            sql`select from spindle.tasks where id = ${id} and lease_expires_at < clock_timestamp() - interval '0.5 s'`,
            (rows) => rows.length === 1
          )
        })
      )
      yield* Harness.awaitRow(id, ({ lease_expires_at }) => lease_expires_at === null || lease_expires_at > new Date())
      yield* proceed(Effect.succeed("done"))
      assert.deepInclude(yield* Harness.awaitOver(id), { status: "completed", epoch: 1n, attempts: 1 })
    }).pipe(Harness.onDatabase))

  it.live("of one task that cannot be renewed or swept does not cost the others theirs", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { lease: "2 seconds" })
      const ids = yield* Effect.forEach(["", "", "refused", ""], (tag) => Harness.insert("scripted", { tag }))
      const attempts = yield* Effect.forEach(ids, script.next)
      const refused = ids[2]!
      yield* refusing
      const dead = { status: "processing", locked_by: "dead", epoch: 1, attempts: 1, lease_expires_at: new Date(0) }
      const stuck = yield* Harness.insert("plain", { ...dead, tag: "refused" })
      const freed = yield* Harness.insert("plain", dead)
      yield* Harness.awaitRow(freed, ({ status }) => status === "completed")
      yield* Harness.eventually(
        "the end of the lease that is not renewed",
        sql`select from spindle.tasks where id = ${refused} and lease_expires_at < now()`,
        (rows) => rows.length === 1
      )
      const leases =
        yield* sql`select from spindle.tasks where id = any(${ids}) and lease_expires_at > now() and epoch = 1`
      assert.lengthOf(leases, 3)
      assert.deepInclude(yield* Harness.rowOf(stuck), { status: "processing", epoch: 1n })
      const { problems } = yield* worker.health
      assert.isTrue(problems.some((problem) => problem.startsWith(`task ${refused} cannot be renewed: `)))
      assert.isTrue(problems.some((problem) => problem.startsWith(`task ${stuck} cannot be swept: `)))
      yield* sql`drop trigger refuse on spindle.tasks`
      for (const { proceed } of attempts) yield* proceed(Effect.succeed(1))
      for (const id of ids) assert.deepInclude(yield* Harness.awaitRow(id, Harness.isOver), { epoch: 1n, attempts: 1 })
    }).pipe(Harness.onDatabase))
})

describe("a task that is cancelled where no trigger runs", () => {
  it.live("is closed all the same, though it has run before", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const script = Harness.script()
      const first = yield* Harness.insert("plain", { run_at: new Date(Date.now() + 3_600_000) })
      const again = yield* Harness.insert("scripted", { max_attempts: 1 })
      yield* Harness.launch(Harness.Tasks, script.handlers)
      const { proceed } = yield* script.next(again)
      yield* proceed(Effect.fail(new Harness.Refused({ why: "no" })))
      yield* Harness.awaitOver(again)
      yield* Effect.gen(function*() {
        const replica = yield* PgClient.PgClient
        yield* replica`set session_replication_role = replica`
        yield* replica`update spindle.tasks set status = 'queued', attempts = 0, run_at = now() + interval '1 hour'
          where id = ${again}`
        for (const id of [first, again]) yield* Harness.cancel(id)
      }).pipe(Effect.provide(PgClient.layer({ url, maxConnections: 1 })))
      for (const [id, epoch] of [[first, 1n], [again, 2n]] as const) {
        yield* Harness.awaitRow(id, (row) => row.epoch === epoch)
        assert.deepInclude((yield* Harness.eventsOf(id)).at(-1), { epoch, seq: 1, type: "cancelled" })
      }
      yield* Harness.assertContract
    }).pipe(Harness.onDatabase))
})
