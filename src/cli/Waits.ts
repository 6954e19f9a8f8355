/**
 * Why a queued task does not run, as far as its row and the database's clock tell: no worker can be asked here.
 */
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as Waiting from "../internal/Waiting.ts"
import * as StorageError from "../storage/StorageError.ts"
import type * as TaskQueue from "../TaskQueue.ts"

/** The database's time, in milliseconds since 1970. */
export const now = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) =>
    sql<{ readonly now: number }>`select date_part('epoch', now()) * 1000 as now`.pipe(
      Effect.map(([row]) => row!.now),
      StorageError.refine("read the time")
    )
)

/** What its row tells at that time. */
export const reasons = (
  { queue, runAt, status, type }: TaskQueue.StoredTask,
  now: number
): ReadonlyArray<Waiting.Reason> =>
  Waiting.reasons({ status, type, queue, runAt: runAt.epochMilliseconds }, now, undefined)

/** A sentence for each reason; none of a task that does not wait. */
export const sentences = (task: TaskQueue.StoredTask) =>
  task.status !== "queued" ?
    Effect.succeed([]) :
    Effect.map(now, (now) =>
      reasons(task, now).map((reason) => `${Waiting.words(reason)}${reason._tag === "Unclaimed" ? "" : "."}`))
