/**
 * Cancels tasks and runs them again, and tells what was found.
 *
 * A statement that waited for another's change may find nothing to change any more while it still sees the row as it
 * was. It is repeated then: the next one sees the row as committed.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Db from "../Db.ts"
import * as StorageError from "../storage/StorageError.ts"
import type * as TaskTable from "../storage/TaskTable.ts"
import type * as Task from "../Task.ts"
import type { CancelOutcome, RetryOutcome } from "../TaskQueue.ts"

const maxRounds = 100

/**
 * @category combinators
 * @since 0.1.0
 */
export const cancel = Effect.fnUntraced(function*(
  table: TaskTable.TaskTable,
  id: Task.TaskId
): Effect.fn.Return<CancelOutcome, StorageError.StorageError> {
  for (let round = 0; round < maxRounds; round++) {
    const row = yield* table.cancel(id)
    if (row === undefined) return "not_found"
    if (row.changed) return "cancelled"
    if (row.status !== "queued" && row.status !== "processing") return `already_${row.status}`
  }
  return yield* overtaken("cancel the task")
})

/**
 * @category combinators
 * @since 0.1.0
 */
export const retry = Effect.fnUntraced(function*(
  sql: SqlClient.SqlClient,
  table: TaskTable.TaskTable,
  id: Task.TaskId,
  resetAttempts: boolean
): Effect.fn.Return<RetryOutcome, StorageError.StorageError> {
  for (let round = 0; round < maxRounds; round++) {
    // A transaction of its own, or a savepoint: the unique key's refusal must not end the caller's transaction.
    const row = yield* Db.transaction(sql, table.retry(id, resetAttempts)).pipe(
      StorageError.refine("queue the task again"),
      Effect.catchIf(({ sqlState }) => sqlState === "23505", () => Effect.succeed("duplicate" as const))
    )
    if (row === "duplicate") return row
    if (row === undefined) return "not_found"
    if (row.changed) return "queued"
    if (row.status === "queued" || row.status === "processing") return "not_finished"
    if (row.held) return "still_stopping"
  }
  return yield* overtaken("queue the task again")
})

const overtaken = (operation: string) =>
  new StorageError.StorageError({ operation, transient: true, cause: new Error("its status changes all the time") })
