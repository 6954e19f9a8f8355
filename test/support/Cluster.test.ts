import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Schedule } from "effect"
import * as Cluster from "./Cluster.ts"
import { execute } from "./TestDatabase.ts"

const connect = (cluster: Cluster.Cluster) =>
  Effect.map(Layer.build(PgClient.layer({ url: cluster.url(), maxConnections: 1 })), Context.get(PgClient.PgClient))

describe("Cluster", () => {
  it.live("keeps its address and what was committed through a crash", () =>
    Effect.gen(function*() {
      const cluster = yield* Cluster.make({
        settings: { fsync: "on", synchronous_commit: "on", full_page_writes: "on" }
      })
      const sql = yield* connect(cluster)
      const before = yield* cluster.pid
      yield* sql`create table kept as select 1 as id`
      yield* cluster.restart("immediate")
      assert.notStrictEqual(yield* cluster.pid, before)
      assert.deepStrictEqual(
        yield* Effect.retry(sql`select id, current_setting('fsync') as fsync from kept`, Schedule.recurs(1)),
        [{ id: 1, fsync: "on" }]
      )
      yield* cluster.stop("fast")
      assert.strictEqual((yield* Effect.flip(execute(cluster.url(), "select 1"))).reason._tag, "ConnectionError")
    }), 60_000)

  it.live("fails over to a synchronous standby", () =>
    Effect.gen(function*() {
      const primary = yield* Cluster.make({
        settings: { synchronous_commit: "remote_apply", synchronous_standby_names: "standby" }
      })
      const standby = yield* Cluster.standbyOf(primary)
      const writer = yield* connect(primary)
      yield* writer`create table replicated as select 1 as id`
      const reader = yield* connect(standby)
      assert.deepStrictEqual(yield* reader`select id, pg_is_in_recovery() as standby from replicated`, [
        { id: 1, standby: true }
      ])
      yield* primary.stop("immediate")
      yield* reader`select pg_promote()`
      yield* reader`insert into replicated values (2)`
      assert.deepStrictEqual(yield* reader`select id from replicated order by id`, [{ id: 1 }, { id: 2 }])
    }), 60_000)
})
