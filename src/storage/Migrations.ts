/**
 * The tables as numbered lists of statements: applied in one transaction under a lock, or printed for an owner's own
 * migration tool.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as Db from "../Db.ts"
import * as Ddl from "./Ddl.ts"
import * as StorageError from "./StorageError.ts"

/**
 * One step of the schema's history. An id is never used twice, and a released migration never changes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Migration {
  readonly id: number
  readonly name: string
  readonly statements: (schema: string) => ReadonlyArray<string>
}

/**
 * All migrations, oldest first.
 *
 * @category constants
 * @since 0.1.0
 */
export const migrations: ReadonlyArray<Migration> = [
  { id: 1, name: "tasks and their events", statements: Ddl.initial },
  { id: 2, name: "an index of failed and cancelled tasks", statements: Ddl.endedIndex },
  { id: 3, name: "a bound for unique keys that their index can hold", statements: Ddl.uniqueBytes },
  { id: 4, name: "who completed a task", statements: Ddl.completedBy }
]

/**
 * Every statement to the current schema from an empty database, or from any state before, each ended by a semicolon, for
 * `spindle migrate --print`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const print = (schema: string): string =>
  [
    ...Ddl.bookkeeping(schema),
    ...migrations.map(({ id, name, statements }) =>
      Ddl.unless(
        `${Ddl.applied(schema)} where id = ${id}`,
        [...statements(schema), Ddl.record(schema, id, name)],
        "migration"
      )
    )
  ].map((statement) => `${statement};\n`).join("\n")

/**
 * Applies what is missing and returns the names of what was applied.
 *
 * With nothing to do it issues no DDL and needs no more than `select` on the table of migrations. Processes that start
 * together take turns. The schema is `Db.Schema`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const run: Effect.Effect<ReadonlyArray<string>, StorageError.StorageError, SqlClient.SqlClient> = Effect.gen(
  function*() {
    const sql = yield* SqlClient.SqlClient
    const schema = yield* Db.Schema
    const pending = Effect.gen(function*() {
      const [table] = yield* sql.unsafe<{ readonly present: boolean }>(Ddl.hasBookkeeping(schema))
      if (!table?.present) return migrations
      const applied = yield* sql.unsafe<{ readonly id: number }>(Ddl.applied(schema))
      return migrations.filter(({ id }) => !applied.some((row) => row.id === id))
    })
    if ((yield* pending).length === 0) return []
    return yield* Db.transaction(
      sql,
      Effect.gen(function*() {
        yield* sql.unsafe("select pg_advisory_xact_lock(hashtextextended($1, 0))", [`${schema}.migrations`])
        const missing = yield* pending
        if (missing.length === 0) return []
        for (const statement of Ddl.bookkeeping(schema)) yield* sql.unsafe(statement)
        for (const { id, name, statements } of missing) {
          for (const statement of statements(schema)) yield* sql.unsafe(statement)
          yield* sql.unsafe(Ddl.record(schema, id, name))
        }
        return missing.map(({ name }) => name)
      })
    )
  }
).pipe(StorageError.refine("migrate the schema"))
