/**
 * How the page and the API look at the tables: on connections of their own, no longer than two seconds a statement, and
 * whatever columns and indexes there are.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import * as Db from "../Db.ts"
import * as Contract from "./Contract.ts"
import * as Names from "./Names.ts"
import * as StorageError from "./StorageError.ts"

/**
 * The tables as they were found.
 *
 * @category models
 * @since 0.1.0
 */
export interface Tables {
  readonly schema: string
  readonly columns: Contract.OptionalColumns
  readonly indexes: Contract.Indexes
  /** Sends one statement; `s` in its text is the quoted schema. */
  readonly run: <Row extends object>(
    text: (s: string) => string,
    parameters: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<Row>, SqlError.SqlError>
}

type Asked = <A, E>(
  operation: string,
  ask: (tables: Tables) => Effect.Effect<A, E | SqlError.SqlError>
) => Effect.Effect<A, Exclude<E, SqlError.SqlError> | StorageError.StorageError>

/**
 * @category services
 * @since 0.1.0
 */
export class Browse extends Context.Service<Browse, {
  /** Asks in one transaction that only reads. */
  readonly look: Asked
  /** Changes something in one transaction. */
  readonly change: Asked
}>()("spindle/Browse") {
  static readonly layer: Layer.Layer<Browse, SqlError.SqlError, SqlClient.SqlClient> = Layer.effect(
    Browse,
    Effect.gen(function*() {
      const schema = yield* Db.Schema
      const sql = (yield* Db.pagePool(yield* SqlClient.SqlClient)).withoutTransforms()
      const s = Names.quote(schema)
      // The owner of the tables may add to them while we look on.
      const report = yield* Effect.cachedWithTTL(
        Contract.read(sql, schema),
        (exit) => Exit.isSuccess(exit) && (exit.value.migrated || exit.value.missing.length === 0) ? "1 minute" : 0
      )
      const run: Tables["run"] = <Row extends object>(
        text: (s: string) => string,
        parameters: ReadonlyArray<unknown>
      ) => sql.unsafe<Row>(text(s), parameters)

      const within = (begin: string): Asked => (operation, ask) =>
        Effect.flatMap(
          report,
          ({ columns, indexes }) =>
            Db.transaction(sql, Effect.andThen(sql.unsafe(settings), ask({ schema, columns, indexes, run })))
        ).pipe(
          Effect.provideService(SqlClient.BeginTransaction, begin),
          StorageError.refine(operation),
          (asked) => Db.patiently(asked, patience),
          Effect.flatMap(Option.match({ onNone: () => unanswered(operation), onSome: Effect.succeed }))
        )
      return Browse.of({ look: within("begin read only"), change: within("begin") })
    })
  )
}

// The limits of a session, and what keeps a question on the index it is written for: statistics can lag behind a table that
// was filled or emptied a moment ago. Set in each transaction, as poolers refuse them at the start of a session.
const settings = `
select set_config('statement_timeout', '2s', true),
       set_config('idle_in_transaction_session_timeout', '5s', true),
       set_config('plan_cache_mode', 'force_custom_plan', true),
       set_config('enable_seqscan', 'off', true),
       set_config('enable_bitmapscan', 'off', true),
       set_config('jit', 'off', true)`

const patience = "8 seconds"

const unanswered = (operation: string) =>
  Effect.fail(
    new StorageError.StorageError({
      operation,
      transient: true,
      cause: new Error(`no answer came within ${patience}`)
    })
  )
