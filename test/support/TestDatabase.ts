/**
 * A database of one's own for a block of tests, on the server of the run. Provide a layer to `layer(...)` of
 * `@effect/vitest`: the database is made once for the block and dropped after it.
 */
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Layer, Redacted } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import * as Crypto from "node:crypto"
import { inject } from "vitest"

/** The same server and role, another database. */
export const databaseUrl = (url: Redacted.Redacted, database: string): Redacted.Redacted => {
  const address = new URL(Redacted.value(url))
  address.pathname = `/${encodeURIComponent(database)}`
  return Redacted.make(address.href)
}

/** Runs one statement on a connection of its own. */
export const execute = (url: Redacted.Redacted, statement: string): Effect.Effect<void, SqlError.SqlError> =>
  Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    yield* sql.unsafe(statement)
  }).pipe(Effect.provide(PgClient.layer({ url, maxConnections: 1 })))

export class TestDatabase extends Context.Service<TestDatabase, {
  readonly url: Redacted.Redacted
  readonly name: string
}>()("spindle/test/TestDatabase") {
  static readonly make = Effect.fnUntraced(function*(source: "migrated" | "empty") {
    const { admin, template } = inject("testDatabase")
    const server = Redacted.make(admin)
    const name = yield* Effect.sync(() => `spindle_test_${Crypto.randomUUID().replaceAll("-", "")}`)
    yield* Effect.acquireRelease(
      execute(server, `create database "${name}" template "${source === "migrated" ? template : "template0"}"`),
      () => Effect.orDie(execute(server, `drop database if exists "${name}" with (force)`))
    )
    return TestDatabase.of({ url: databaseUrl(server, name), name })
  })

  /** A database with Spindle's tables in the schema `spindle`. */
  static readonly layer = Layer.effect(this, this.make("migrated"))

  /** A database with nothing in it. */
  static readonly layerEmpty = Layer.effect(this, this.make("empty"))

  /** Another pool on the database that is there. */
  static readonly layerClient = (
    options?: Partial<PgClient.PgPoolConfig>
  ): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, SqlError.SqlError, TestDatabase> =>
    Layer.unwrap(Effect.map(TestDatabase, ({ url }) => PgClient.layer({ ...options, url })))

  /** A migrated database with a pool on it. */
  static readonly layerSql = (
    options?: Partial<PgClient.PgPoolConfig>
  ): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient | TestDatabase, SqlError.SqlError> =>
    Layer.provideMerge(TestDatabase.layerClient(options), TestDatabase.layer)
}
