/**
 * The one error that leaves this folder.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlError from "effect/sql/SqlError"
import * as Db from "../Db.ts"

/**
 * A statement failed. `transient` tells whether the same statement can succeed later.
 *
 * @category errors
 * @since 0.1.0
 */
export class StorageError extends Schema.TaggedError<StorageError>("spindle/StorageError")("StorageError", {
  operation: Schema.String,
  transient: Schema.Boolean,
  sqlState: Schema.optionalKey(Schema.String),
  cause: Schema.Defect()
}) {
  override get message() {
    const { cause } = this
    const text = cause instanceof Error ? cause.message : String(cause)
    return `Could not ${this.operation}: ${text}${this.sqlState === undefined ? "" : ` (SQLSTATE ${this.sqlState})`}`
  }
}

/**
 * Names what was attempted, in words that follow "could not".
 *
 * @category combinators
 * @since 0.1.0
 */
export const refine = (operation: string) =>
<A, E, R>(
  self: Effect.Effect<A, E, R>
): Effect.Effect<A, StorageError | Exclude<E, SqlError.SqlError>, R> =>
  Effect.mapError(
    self,
    (error) => SqlError.isSqlError(error) ? fromSqlError(operation, error) : error as Exclude<E, SqlError.SqlError>
  )

/**
 * The server's own words instead of the driver's summary.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromSqlError = (operation: string, error: SqlError.SqlError): StorageError => {
  const sqlState = Db.sqlState(error)
  return new StorageError({
    operation,
    transient: Db.isTransient(error),
    ...(sqlState === undefined ? {} : { sqlState }),
    cause: Db.isTooLarge(error)
      ? new Error(
        "what is stored is larger than the connection reads at once: the client's option `maxMessageSize` raises that"
      )
      : error.reason.cause ?? error
  })
}
