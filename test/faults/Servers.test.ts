import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Schema, Stream } from "effect"
import * as Migrations from "../../src/storage/Migrations.ts"
import * as Task from "../../src/Task.ts"
import * as TaskEvent from "../../src/TaskEvent.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"
import * as Cluster from "../support/Cluster.ts"
import * as FaultProxy from "../support/FaultProxy.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

class Brief extends Task.make("brief", {
  payload: { n: Schema.Int },
  success: Schema.Int,
  event: TaskEvent.TextDelta
}) {}
class Group extends TaskGroup.make(Brief) {}

const handlers = Group.toLayer({
  brief: ({ n }, { emit }) =>
    emit({ _tag: "text_delta", text: String(n) }).pipe(Effect.andThen(Effect.sleep(n % 20)), Effect.as(n))
})

const enqueue = (count: number) =>
  Effect.flatMap(PgClient.PgClient, (sql) =>
    sql`insert into spindle.tasks (type, payload, max_attempts)
        select 'brief', jsonb_build_object('n', n), 1 from generate_series(1, ${count}::int) n`)

const done = Effect.flatMap(PgClient.PgClient, (sql) =>
  Effect.map(
    sql<{ readonly count: number }>`select count(*)::int as count from spindle.tasks where status = 'completed'`,
    ([row]) => row!.count
  ))

// What was acknowledged is on the disk, as in production.
const durable = { synchronous_commit: "on", full_page_writes: "on" }

const direct = (cluster: Cluster.Cluster) =>
  TestDatabase.layerClient({ maxConnections: 3 }).pipe(
    Layer.provideMerge(Layer.succeed(TestDatabase, TestDatabase.of({ url: cluster.url(), name: "postgres" })))
  )

describe("a server that crashes under load", () => {
  it.live("loses and doubles nothing", () =>
    Effect.gen(function*() {
      const cluster = yield* Cluster.make({ settings: durable })
      yield* Effect.gen(function*() {
        yield* Migrations.run
        const worker = yield* Harness.launch(Group, handlers, { concurrency: 10, lease: "6 seconds" })
        const count = 4000
        yield* enqueue(count)
        for (let crash = 1; crash <= 3; crash++) {
          yield* Harness.eventually("some progress", done, (n) => n >= crash * 300)
          yield* cluster.restart("immediate")
        }
        assert.isBelow(yield* done, count)
        yield* Harness.assertAllOnce(count)
        yield* worker.stop
      }).pipe(Effect.scoped, Effect.provide(direct(cluster)))
    }), 90_000)
})

describe("a failover behind the same address", () => {
  it.live("is followed, though the old primary still answers", () =>
    Effect.gen(function*() {
      const [old, other] = yield* Effect.all([Cluster.make(), Cluster.make()], { concurrency: 2 })
      const address = new URL(Redacted.value(old.url()))
      yield* Effect.gen(function*() {
        yield* Migrations.run
        const sql = yield* PgClient.PgClient
        yield* sql.unsafe(`alter role "${address.username}" password '${address.password}'`)
      }).pipe(Effect.provide(direct(other)))
      address.port = String(other.port)
      const next = { ...other, url: () => Redacted.make(address.href) }
      yield* Effect.provide(Migrations.run, direct(old))
      const proxy = yield* FaultProxy.make({ host: old.host, port: old.port })
      const worker = yield* Harness.launch(Group, handlers, { notifications: "on" }, { url: proxy.url(old.url()) })
        .pipe(
          Effect.provide(direct(old))
        )
      yield* Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        yield* enqueue(10)
        yield* Harness.assertAllOnce(10)
        yield* sql`alter system set default_transaction_read_only = on`
        yield* sql`select pg_reload_conf()`
        yield* Harness.eventually(
          "that it cannot write",
          worker.health,
          ({ problems }) => problems.some((problem) => problem.includes("25006"))
        )
      }).pipe(Effect.provide(direct(old)))
      // what is connected stays so
      yield* proxy.setTarget(next.host, next.port)
      yield* Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        yield* enqueue(10)
        yield* Harness.assertAllOnce(10)
        yield* Harness.eventually(
          "the listener",
          sql`select from pg_stat_activity where application_name = 'spindle listener'`,
          (rows) => rows.length === 1
        )
        yield* Harness.eventually("its health", worker.health, ({ problems }) => problems.length === 0)
        yield* worker.stop
      }).pipe(Effect.provide(direct(next)))
    }).pipe(Effect.scoped), 60_000)
})

describe("a failover to a synchronous standby", () => {
  it.live("loses nothing that was acknowledged", () =>
    Effect.gen(function*() {
      const primary = yield* Cluster.make({
        settings: { ...durable, synchronous_commit: "remote_apply", synchronous_standby_names: "standby" }
      })
      const standby = yield* Cluster.standbyOf(primary, { settings: { ...durable, synchronous_standby_names: "" } })
      const proxy = yield* FaultProxy.make({ host: primary.host, port: primary.port })
      yield* Effect.gen(function*() {
        yield* Migrations.run
        const count = 1500
        yield* enqueue(count)
        const worker = yield* Harness.launch(Group, handlers, { concurrency: 10, lease: "6 seconds" }, {
          url: proxy.url(primary.url())
        })
        const acknowledged = new Map<bigint, Schema.Json>()
        yield* Effect.forkScoped(Stream.runForEach(worker.lifecycle, (event) =>
          Effect.sync(() => {
            if (event._tag === "Completed") acknowledged.set(event.task.id, event.result)
          })))
        yield* Harness.eventually("some progress", done, (n) => n >= 300)
        yield* primary.stop("immediate")
        const before = new Map(acknowledged)
        yield* Effect.gen(function*() {
          const sql = yield* PgClient.PgClient
          yield* sql`select pg_promote()`
          const rows = yield* sql<{ readonly id: bigint; readonly status: string; readonly result: Schema.Json }>`
            select id, status, result from spindle.tasks where id = any(${[...before.keys()]})`
          assert.isAbove(before.size, 100)
          assert.lengthOf(rows, before.size)
          for (const { id, result, status } of rows) {
            assert.strictEqual(status, "completed")
            assert.strictEqual(result, before.get(id))
          }
          yield* proxy.setTarget(standby.host, standby.port)
          yield* Harness.assertAllOnce(count)
        }).pipe(Effect.provide(direct(standby)))
        yield* worker.stop
      }).pipe(Effect.scoped, Effect.provide(direct(primary)))
    }), 90_000)
})
