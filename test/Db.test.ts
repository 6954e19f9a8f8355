import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as Db from "../src/Db.ts"
import { TestDatabase } from "./support/TestDatabase.ts"

layer(TestDatabase.layerSql(), { excludeTestServices: true })("a control pool", (it) => {
  const becomesReadOnly = (only: boolean) =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const { name } = yield* TestDatabase
      // of sessions that begin from now on
      yield* sql.unsafe(
        `alter database "${name}" ${only ? "set" : "reset"} default_transaction_read_only${only ? " = on" : ""}`
      )
    })

  for (
    const [what, statement] of [
      ["cannot write", "create table spindle.written ()"],
      ["refuses something else, and only reads", "select 1 / 0"]
    ] as const
  ) {
    it.effect(`leaves a server that ${what}, with all of its connections`, () =>
      Effect.gen(function*() {
        const client = yield* PgClient.PgClient
        yield* becomesReadOnly(true)
        const sql = yield* Db.controlPool(client, 2)
        const sessions = Effect.all([
          sql`select pg_backend_pid() as pid, pg_sleep(0.05)`,
          sql`select pg_backend_pid() as pid, pg_sleep(0.05)`
        ], {
          concurrency: 2
        })
        const before = new Set((yield* sessions).map(([row]) => row!.pid))
        assert.strictEqual(before.size, 2)
        yield* becomesReadOnly(false)
        yield* Effect.flip(sql.unsafe(statement))
        for (const [row] of yield* sessions) assert.isFalse(before.has(row!.pid))
        yield* sql`update spindle.tasks set tag = 'written'`
      }))
  }

  it.effect("keeps its connections when a statement is refused where others are not", () =>
    Effect.gen(function*() {
      const sql = yield* Db.controlPool(yield* PgClient.PgClient, 1)
      const pid = sql`select pg_backend_pid() as pid`
      const before = yield* pid
      assert.strictEqual(Db.sqlState(yield* Effect.flip(sql`select 1 / 0`)), "22012")
      assert.deepStrictEqual(yield* pid, before)
    }))
})
