import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Contract from "../../src/storage/Contract.ts"
import * as Ddl from "../../src/storage/Ddl.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

const check = Effect.flatMap(PgClient.PgClient, (sql) => Contract.check(sql, "spindle"))

describe("the contract", () => {
  it.live("names every table, column and type that is missing", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`alter table spindle.tasks drop column locked_by cascade`
      yield* sql`alter table spindle.tasks alter column attempts type bigint`
      yield* sql`alter table spindle.tasks add column finished text`
      assert.deepStrictEqual((yield* check).missing, [
        "column spindle.tasks.attempts is bigint, it must be integer",
        "column spindle.tasks.locked_by (text)"
      ])
      yield* sql`drop table spindle.task_events`
      assert.include((yield* check).missing, "table spindle.task_events")
    }).pipe(Harness.onDatabase))

  it.live("refuses partitions, and events without their key", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`alter table spindle.task_events drop constraint task_events_pkey`
      assert.deepStrictEqual((yield* check).missing, [
        "a primary key or unique index on spindle.task_events (task_id, epoch, seq)"
      ])
      yield* sql`create unique index on spindle.task_events (epoch, task_id, seq)`
      assert.isEmpty((yield* check).missing)
      yield* sql`alter table spindle.tasks rename to old`
      yield* sql`create table spindle.tasks (like spindle.old) partition by list (queue)`
      assert.deepStrictEqual((yield* check).missing, ["spindle.tasks as an ordinary table, without partitions"])
    }).pipe(Harness.onDatabase))

  it.live("does without what is optional, and tells what the owner may add", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      for (const column of ["timeout_ms", "unique_key", "tag", "user_id", "metadata", "completed_by"]) {
        yield* sql.unsafe(`alter table spindle.tasks drop column ${column} cascade`)
      }
      yield* sql`drop index spindle.tasks_locked_idx`
      yield* sql`drop index spindle.tasks_ended_idx`
      yield* sql`drop function spindle.cancel_task() cascade`
      const report = yield* check
      assert.isEmpty(report.missing)
      assert.deepStrictEqual(report.columns, {
        timeout: false,
        uniqueKey: false,
        tag: false,
        userId: false,
        completedBy: false,
        metadata: false
      })
      assert.isFalse(report.closesCancelled)
      assert.deepStrictEqual(report.indexes, { claim: true, locked: false, ended: false })
      assert.lengthOf(report.advice, 3)
      for (const ddl of report.advice.flatMap((advice) => advice.ddl)) yield* sql.unsafe(ddl)
      const followed = yield* check
      assert.isEmpty(followed.advice)
      assert.isTrue(followed.closesCancelled)
    }).pipe(Harness.onDatabase))

  it.live("a trigger that is switched off closes nothing", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`alter table spindle.tasks disable trigger tasks_cancel`
      assert.isFalse((yield* check).closesCancelled)
    }).pipe(Harness.onDatabase))

  it.live("names every right that is missing", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const role = `${(yield* TestDatabase).name}_worker`
      yield* Effect.acquireRelease(
        sql.unsafe(`create role ${role}`),
        () => Effect.orDie(Effect.andThen(sql.unsafe(`drop owned by ${role}`), sql.unsafe(`drop role ${role}`)))
      )
      const missing = sql.withTransaction(Effect.andThen(sql.unsafe(`set local role ${role}`), check)).pipe(
        Effect.map((report) => report.missing)
      )
      assert.deepStrictEqual(yield* missing, [
        "usage on schema spindle",
        "select on spindle.tasks",
        "update on spindle.tasks",
        "insert on spindle.task_events",
        "select on spindle.task_events"
      ])
      yield* sql.unsafe(`grant usage on schema spindle to ${role}`)
      yield* sql.unsafe(`grant select on spindle.tasks to ${role}`)
      assert.deepStrictEqual(yield* missing, [
        "update on spindle.tasks",
        "insert on spindle.task_events",
        "select on spindle.task_events"
      ])
      for (const grant of Ddl.grants("spindle", "worker", role)) yield* sql.unsafe(grant)
      assert.isEmpty(yield* missing)
    }).pipe(Harness.onDatabase))
})
