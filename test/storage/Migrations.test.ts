import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as Db from "../../src/Db.ts"
import * as Contract from "../../src/storage/Contract.ts"
import * as Ddl from "../../src/storage/Ddl.ts"
import * as Migrations from "../../src/storage/Migrations.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const empty = Layer.provideMerge(TestDatabase.layerClient({ maxConnections: 8 }), TestDatabase.layerEmpty)

const names = Migrations.migrations.map(({ name }) => name)

const missing = (schema: string) =>
  Effect.flatMap(PgClient.PgClient, (sql) => Effect.map(Contract.check(sql, schema), (report) => report.missing))

// Every object of a schema, as text.
const catalog = Effect.fnUntraced(function*(schema: string) {
  const sql = yield* PgClient.PgClient
  return yield* sql<{ readonly what: string }>`
    select pg_describe_object('pg_class'::regclass, c.oid, 0) as what from pg_class c
      join pg_namespace n on n.oid = c.relnamespace where n.nspname = ${schema}
     union all
    select pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = t.tgrelid
      join pg_namespace n on n.oid = c.relnamespace where n.nspname = ${schema}
     union all
    select pg_get_functiondef(p.oid) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname = ${schema}
     union all
    select pg_get_constraintdef(k.oid) from pg_constraint k join pg_namespace n on n.oid = k.connamespace
     where n.nspname = ${schema}
     order by 1`
})

describe("migrations", () => {
  it.live("lead from nothing to what the contract asks for, once", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* missing("spindle"), ["schema spindle"])
      assert.deepStrictEqual(yield* Migrations.run, names)
      assert.deepStrictEqual(yield* Migrations.run, [])
      const sql = yield* PgClient.PgClient
      const report = yield* Contract.check(sql, "spindle")
      assert.deepStrictEqual(report, {
        missing: [],
        advice: [],
        columns: { timeout: true, uniqueKey: true, tag: true, userId: true, metadata: true },
        indexes: { claim: true, locked: true, ended: true },
        closesCancelled: true,
        migrated: true,
        referencing: false
      })
    }).pipe(Effect.provide(empty)))

  it.live("of processes that start together take turns", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      for (let round = 0; round < 8; round++) {
        yield* sql`drop schema if exists spindle cascade`
        const ran = yield* Effect.all(Array.from({ length: 6 }, () => Migrations.run), { concurrency: 6 })
        assert.deepStrictEqual(ran.flat(), names)
      }
    }).pipe(Effect.provide(empty)))

  it.live("bring an older schema up to date", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      for (const statement of Ddl.bookkeeping("spindle")) yield* sql.unsafe(statement)
      for (const statement of Ddl.initial("spindle")) yield* sql.unsafe(statement)
      yield* sql.unsafe(Ddl.record("spindle", 1, names[0]!))
      assert.isFalse((yield* Contract.check(sql, "spindle")).indexes.ended)
      const indexes = yield* sql<{ readonly name: string }>`
        select indexname as name from pg_indexes where schemaname = 'spindle' order by 1`
      // as it was released, whatever is added later
      assert.deepStrictEqual(indexes.map(({ name }) => name), [
        "migrations_pkey",
        "task_events_pkey",
        "tasks_claim_idx",
        "tasks_locked_idx",
        "tasks_pkey",
        "tasks_unique_key_idx"
      ])
      assert.deepStrictEqual(yield* Migrations.run, names.slice(1))
      const updated = yield* catalog("spindle")
      yield* sql`drop schema spindle cascade`
      yield* Migrations.run
      assert.deepStrictEqual(updated, yield* catalog("spindle"))
    }).pipe(Effect.provide(empty)))

  it.live("keep to their schema", () =>
    Effect.gen(function*() {
      yield* Effect.provideService(Migrations.run, Db.Schema, "tasks_of_ours")
      assert.isEmpty(yield* missing("tasks_of_ours"))
      assert.deepStrictEqual(yield* missing("spindle"), ["schema spindle"])
    }).pipe(Effect.provide(empty)))

  it.live("leave nothing behind when one of their statements fails", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`create schema spindle`
      yield* sql`create table spindle.task_events (old int)`
      const error = yield* Effect.flip(Migrations.run)
      assert.strictEqual(error.sqlState, "42P07")
      assert.isFalse(error.transient)
      assert.deepStrictEqual(
        yield* sql`select relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'spindle'`,
        [{ relname: "task_events" }]
      )
    }).pipe(Effect.provide(empty)))

  it.live("are printed as they are run", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* Migrations.run
      const applied = yield* catalog("spindle")
      yield* sql`drop schema spindle cascade`
      // psql would split the text; a block of plpgsql has semicolons of its own
      const printed = Migrations.print("spindle").split(/;\n(?=\n|$)/).filter((statement) => statement.trim() !== "")
      for (const statement of printed) yield* sql.unsafe(statement)
      assert.deepStrictEqual(yield* catalog("spindle"), applied)
      assert.deepStrictEqual(yield* Migrations.run, [])
    }).pipe(Effect.provide(empty)))

  it.live("with nothing to do need no right but to read what ran", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const { name } = yield* TestDatabase
      yield* Migrations.run
      yield* Effect.acquireRelease(
        sql.unsafe(`create role ${name}_worker`),
        () =>
          Effect.orDie(
            Effect.andThen(sql.unsafe(`drop owned by ${name}_worker`), sql.unsafe(`drop role ${name}_worker`))
          )
      )
      for (const grant of Ddl.grants("spindle", "worker", `${name}_worker`)) yield* sql.unsafe(grant)
      const before = yield* sql`select pg_current_xact_id_if_assigned() as xid`
      const ran = yield* Db.transaction(
        sql,
        Effect.gen(function*() {
          yield* sql.unsafe(`set local role ${name}_worker`)
          const ran = yield* Migrations.run
          assert.deepStrictEqual(yield* sql`select pg_current_xact_id_if_assigned() as xid`, before)
          return ran
        })
      )
      assert.isEmpty(ran)
    }).pipe(Effect.scoped, Effect.provide(empty)))
})
