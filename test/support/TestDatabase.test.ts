import { PgClient } from "@effect/sql-pg"
import { assert, describe, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { execute, TestDatabase } from "./TestDatabase.ts"

const databases = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  return yield* sql<{ readonly datname: string }>`select datname from pg_database`
})

describe("TestDatabase", () => {
  layer(TestDatabase.layerSql())("migrated", (it) => {
    it.effect("has the tables, and one database for the block", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const database = yield* TestDatabase
        const [row] = yield* sql`
          select current_database() as name, to_regclass('spindle.tasks') is not null as migrated
        `
        assert.deepStrictEqual(row, { name: database.name, migrated: true })
      }))

    it.effect("drops a database although somebody is connected to it", () =>
      Effect.gen(function*() {
        const outside = yield* Effect.scope
        const name = yield* Effect.scoped(Effect.gen(function*() {
          const context = yield* Layer.build(Layer.fresh(TestDatabase.layer))
          const { name, url } = Context.get(context, TestDatabase)
          yield* Layer.buildWithScope(PgClient.layer({ url, minConnections: 1 }), outside)
          assert.isTrue((yield* databases).some(({ datname }) => datname === name))
          return name
        }))
        assert.isFalse((yield* databases).some(({ datname }) => datname === name))
      }))
  })

  layer(TestDatabase.layerClient().pipe(Layer.provideMerge(TestDatabase.layerEmpty)))("empty", (it) => {
    it.effect("has no tables", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const { url } = yield* TestDatabase
        yield* execute(url, "create table mine (id int)")
        assert.deepStrictEqual(
          yield* sql`select relname from pg_class where relkind = 'r' and relnamespace >= 16384 or relname = 'mine'`,
          [{ relname: "mine" }]
        )
      }))
  })
})
