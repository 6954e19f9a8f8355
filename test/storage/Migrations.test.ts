import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as Crypto from "node:crypto"
import * as Db from "../../src/Db.ts"
import * as Contract from "../../src/storage/Contract.ts"
import * as Ddl from "../../src/storage/Ddl.ts"
import * as Migrations from "../../src/storage/Migrations.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const empty = Layer.provideMerge(TestDatabase.layerClient({ maxConnections: 8 }), TestDatabase.layerEmpty)

const names = Migrations.migrations.map(({ name }) => name)

// What no index can compress.
const random = (bytes: number) => Crypto.randomBytes(bytes).toString("base64").slice(0, bytes)

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
        doubts: [],
        advice: [],
        columns: { timeout: true, uniqueKey: true, tag: true, userId: true, metadata: true, completedBy: true },
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

  it.live.each(["tasks_of_ours", "public"])(
    "need no right but to create in the schema %s",
    (schema) =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const role = `${(yield* TestDatabase).name}_owner`
        yield* Effect.acquireRelease(
          sql.unsafe(`create role ${role}`),
          () => Effect.orDie(Effect.andThen(sql.unsafe(`drop owned by ${role}`), sql.unsafe(`drop role ${role}`)))
        )
        yield* sql.unsafe(
          schema === "public"
            ? `grant create on schema public to ${role}`
            : `create schema ${schema} authorization ${role}`
        )
        const as = <A, E, R>(self: Effect.Effect<A, E, R>) =>
          Db.transaction(sql, Effect.andThen(sql.unsafe(`set local role ${role}`), self)).pipe(
            Effect.provideService(Db.Schema, schema)
          )
        // from the first version on
        yield* as(Effect.gen(function*() {
          for (const statement of Ddl.bookkeeping(schema)) yield* sql.unsafe(statement)
          for (const statement of Ddl.initial(schema)) yield* sql.unsafe(statement)
          yield* sql.unsafe(Ddl.record(schema, 1, names[0]!))
        }))
        assert.deepStrictEqual(yield* as(Migrations.run), names.slice(1))
        assert.isEmpty(yield* missing(schema))

        yield* sql.unsafe(`drop owned by ${role}`)
        yield* sql.unsafe(schema === "public" ? "select" : `create schema ${schema} authorization ${role}`)
        yield* sql.unsafe(`grant create on schema ${schema} to ${role}`)
        const printed = Migrations.print(schema).split(/;\n(?=\n|$)/).filter((statement) => statement.trim() !== "")
        yield* as(Effect.forEach(printed, (statement) => sql.unsafe(statement)))
        // again, and with an index that the owner has added: nothing is left to do
        yield* sql.unsafe(`delete from ${schema}.migrations where id = 2`)
        yield* as(Effect.forEach(printed, (statement) => sql.unsafe(statement)))
        assert.isEmpty(yield* as(Migrations.run))
        assert.isEmpty(yield* missing(schema))
      }).pipe(Effect.scoped, Effect.provide(empty))
  )

  it.live("bound unique keys by what their index holds, unless longer ones are stored", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const insert = (type: number, key: number) =>
        sql`insert into spindle.tasks (type, queue, unique_key)
            select ${random(type)}, ${random(800)}, ${random(key)}`
      const constraints = Effect.map(
        sql<{ readonly name: string }>`
          select conname as name from pg_constraint
           where conrelid = 'spindle.tasks'::regclass and conname = 'tasks_unique_key_check'`,
        (rows) => rows.length
      )
      yield* Migrations.run
      assert.strictEqual(yield* constraints, 1)
      for (const [type, key] of [[800, 1880], [799, 1881], [798, 1882], [797, 1883], [680, 2000]] as const) {
        yield* insert(type, key)
      }
      for (const [type, key] of [[800, 1881], [681, 2000]] as const) {
        const { reason } = yield* Effect.flip(insert(type, key))
        assert.include(String(reason.cause), "tasks_unique_key_check")
      }

      yield* sql`drop schema spindle cascade`
      for (const statement of [...Ddl.bookkeeping("spindle"), ...Ddl.initial("spindle")]) yield* sql.unsafe(statement)
      yield* sql.unsafe(Ddl.record("spindle", 1, names[0]!))
      yield* sql`insert into spindle.tasks (type, unique_key) values (repeat('t', 800), repeat('k', 2000))`
      assert.deepStrictEqual(yield* Migrations.run, names.slice(1))
      assert.strictEqual(yield* constraints, 0)
      yield* sql`update spindle.tasks set status = 'completed'`
    }).pipe(Effect.provide(empty)))
})
