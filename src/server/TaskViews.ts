/**
 * From rows to what the API shows of tasks, with what looks secret masked.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as Waiting from "../internal/Waiting.ts"
import type * as TaskDetail from "../storage/TaskDetail.ts"
import type * as TaskPages from "../storage/TaskPages.ts"
import { failure } from "../storage/TaskTable.ts"
import type * as TaskEvent from "../TaskEvent.ts"
import { masked } from "./Masking.ts"
import type * as Views from "./Views.ts"

/**
 * A line of a list.
 *
 * @category models
 * @since 0.1.0
 */
export const summary = (row: TaskPages.Row, serving: Waiting.Serving | undefined): Views.TaskSummary => ({
  id: row.id as Views.TaskSummary["id"],
  type: row.type,
  queue: row.queue,
  status: row.status,
  priority: row.priority,
  attempts: row.attempts,
  maxAttempts: row.max_attempts,
  tag: row.tag,
  userId: row.user_id,
  lockedBy: row.locked_by,
  error: row.error === null ? null : briefly(failureOf(row.error)),
  waiting: Waiting.reasons(
    { status: row.status, type: row.type, queue: row.queue, runAt: Number(row.run_at), heldKey: row.held_key },
    Number(row.now),
    serving
  ),
  createdAt: DateTime.fromDateUnsafe(row.created_at),
  runAt: DateTime.fromDateUnsafe(row.run_at),
  startedAt: time(row.started_at),
  finishedAt: time(row.finished_at)
})

/**
 * Everything that is known of a task.
 *
 * @category models
 * @since 0.1.0
 */
export const detail = (
  row: TaskDetail.Row,
  closings: ReadonlyArray<TaskDetail.Closing>,
  maxValueBytes: number,
  serving: Waiting.Serving | undefined
): Views.TaskDetail => {
  const sizes = [
    ["payload", row.payload_bytes],
    ["result", row.result_bytes],
    ["error", row.error_bytes],
    ["metadata", row.metadata_bytes]
  ] as const
  const attemptsEnded = closings.map(attempt)
  const closing = closings.findLast(({ epoch, type }) => epoch === row.epoch && type === "cancelled")
  // a task that was cancelled while it waited was not running, whatever it did before
  const ran = row.started_at !== null && (closing === undefined || "startedAt" in closing.data)
  return {
    ...summary(row, serving),
    payload: masked(row.payload),
    result: masked(row.result),
    error: row.error === null ? null : failureOf(row.error),
    metadata: masked(row.metadata),
    omitted: sizes.flatMap(([value, bytes]) => bytes !== null && bytes > maxValueBytes ? [{ value, bytes }] : []),
    uniqueKey: row.unique_key,
    timeoutMs: row.timeout_ms,
    epoch: String(row.epoch),
    leaseExpiresAt: time(row.lease_expires_at),
    handledHere: serving?.handles(row.type) ?? null,
    attemptsEnded,
    completedBy: row.status === "completed" ? row.completed_by : null,
    timing: {
      now: DateTime.fromDateUnsafe(row.now),
      waitedMs: waited(row, ran),
      ranMs: !ran || row.status === "queued"
        ? null
        : between(row.started_at, row.locked_by === null ? row.finished_at : row.now),
      leaseExpiresInMs: row.lease_expires_at === null ? null : Number(row.lease_expires_at) - Number(row.now)
    },
    cancellation: row.status === "cancelled" ? cancellation(row, closing) : null
  }
}

// An attempt that is put off moves `run_at` beyond its own start.
const waited = (row: TaskDetail.Row, ran: boolean) => {
  if (row.status === "queued") return row.due ? between(row.run_at, row.now) : null
  const end = ran ? row.started_at : row.finished_at
  return end === null || row.run_at > end ? null : between(row.run_at, end)
}

const cancellation = (row: TaskDetail.Row, closing: TaskDetail.Closing | undefined): Views.Cancellation => {
  const totalMs = closing === undefined ? null : between(row.finished_at, closing.created_at)
  const unwound = closing !== undefined && "unwoundMs" in closing.data ? closing.data["unwoundMs"] : undefined
  const unwoundMs = typeof unwound === "number" ? unwound : null
  return {
    requestedAt: time(row.finished_at),
    totalMs,
    noticedMs: totalMs === null || unwoundMs === null ? null : Math.max(0, totalMs - unwoundMs),
    unwoundMs
  }
}

const attempt = ({ created_at, data, epoch, type }: TaskDetail.Closing): Views.Attempt => {
  const { reason, runAt, startedAt, worker, ...rest } = Predicate.isObject(data) ? data : {}
  const started = Option.getOrNull(decodeTime(startedAt))
  return {
    epoch: String(epoch),
    outcome: type,
    worker: typeof worker === "string" ? worker : null,
    startedAt: started,
    endedAt: DateTime.fromDateUnsafe(created_at),
    durationMs: started === null ? null : Math.max(0, Number(created_at) - DateTime.toEpochMillis(started)),
    error: type === "error" || type === "retry" ? failureOf(rest) : null,
    reason: typeof reason === "string" ? reason : null,
    runAt: Option.getOrNull(decodeTime(runAt))
  }
}

const decodeTime = Schema.decodeUnknownOption(Schema.DateTimeUtcFromString)

const maxMessage = 2000

const failureOf = (error: Schema.Json): TaskEvent.Failure => {
  const { data, kind, message, stack, tag } = failure(masked(error))
  return {
    kind,
    tag,
    message,
    ...(stack === undefined ? {} : { stack }),
    ...(data === undefined ? {} : { data })
  }
}

const briefly = ({ kind, message, tag }: TaskEvent.Failure) => ({ kind, tag, message: message.slice(0, maxMessage) })

const time = (date: Date | null) => date && DateTime.fromDateUnsafe(date)

const between = (from: Date | null, to: Date | null) =>
  from === null || to === null ? null : Math.max(0, Number(to) - Number(from))
