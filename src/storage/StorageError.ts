/**
 * The one error that leaves this folder.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlError from "effect/sql/SqlError"
import * as Db from "../Db.ts"
import * as Thrown from "../internal/Thrown.ts"

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
    return `Could not ${this.operation}: ${Thrown.messageOf(cause)}${
      this.sqlState === undefined ? "" : ` (SQLSTATE ${this.sqlState})`
    }`
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

/**
 * What a server's refusal that does not pass by itself is about.
 *
 * - `values`: what was written; the same will be refused again
 * - `statement`: whatever is written, until somebody gives a right back or puts a table in its place
 * - `entry`: what an owner's trigger or policy says of this row, now; it may think otherwise in a moment
 *
 * @category getters
 * @since 0.1.0
 */
export const scope = ({ cause, sqlState = "" }: StorageError): "values" | "statement" | "entry" => {
  const { constraint, routine, where } = cause as { readonly [field: string]: string | undefined }
  // A trigger can raise any code.
  if (where?.includes("PL/") === true) return "entry"
  // Data exceptions, JSON that is nested too deep, null where none may be, and what a constraint says by its own name.
  if (/^(22|54001|23502)/.test(sqlState) || (sqlState === "23514" && constraint !== undefined)) return "values"
  return /^(0A|26|28|3D|3F|42|58)/.test(sqlState) && where === undefined && routine !== "ExecWithCheckOptions"
    ? "statement"
    : "entry"
}
