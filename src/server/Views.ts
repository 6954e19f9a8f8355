/**
 * What the HTTP API shows: values as they go over the wire.
 *
 * Ids are decimal strings, times ISO 8601 in UTC, spans of time milliseconds with names that end in `Ms`. Values of tasks
 * (payloads, results, errors, metadata, events) come with what looks secret masked.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as Waiting from "../internal/Waiting.ts"
import * as Task from "../Task.ts"
import * as TaskEvent from "../TaskEvent.ts"

/**
 * @category ids
 * @since 0.1.0
 */
export const TaskId: Schema.Codec<Task.TaskId, string> = Schema.String.check(
  Schema.isPattern(/^[1-9]\d{0,18}$/, { expected: "the id of a task, a decimal number such as 42" })
).pipe(
  Schema.decodeTo(
    Task.TaskId,
    SchemaTransformation.transform({ decode: BigInt, encode: String })
  )
)

const Time = Schema.DateTimeUtcFromString
const Text = Schema.String.check(
  Schema.isPattern(/^[^\0]{1,2000}$/s, { expected: "a text of 1 to 2000 characters without NUL" })
)
const Millis = Schema.Finite

/**
 * @category models
 * @since 0.1.0
 */
export const Status = Schema.Literals(["queued", "processing", "completed", "failed", "cancelled"])
/**
 * @category models
 * @since 0.1.0
 */
export type Status = typeof Status.Type

/**
 * How many; with `capped`, at least that many: counting stopped there.
 *
 * @category models
 * @since 0.1.0
 */
export const Count = Schema.Struct({ count: Schema.Int, capped: Schema.Boolean })
/**
 * @category models
 * @since 0.1.0
 */
export type Count = typeof Count.Type

/**
 * A task as a row of a list: without payload, result and stack.
 *
 * @category models
 * @since 0.1.0
 */
export const TaskSummary = Schema.Struct({
  id: TaskId,
  type: Schema.String,
  queue: Schema.String,
  status: Status,
  priority: Schema.Int,
  attempts: Schema.Int,
  maxAttempts: Schema.Int,
  tag: Schema.NullOr(Schema.String),
  userId: Schema.NullOr(Schema.String),
  /** The worker that holds it. On a cancelled task: its handler is still unwinding. */
  lockedBy: Schema.NullOr(Schema.String),
  error: Schema.NullOr(Schema.Struct({ kind: Schema.String, tag: Schema.String, message: Schema.String })),
  /** What stands in the way of a queued task, as far as this process can tell; empty when it is about to run. */
  waiting: Schema.Array(Waiting.Reason),
  createdAt: Time,
  runAt: Time,
  startedAt: Schema.NullOr(Time),
  finishedAt: Schema.NullOr(Time)
})
/**
 * @category models
 * @since 0.1.0
 */
export type TaskSummary = typeof TaskSummary.Type

/**
 * A claim that ended, read back from its closing event.
 *
 * @category models
 * @since 0.1.0
 */
export const Attempt = Schema.Struct({
  epoch: Schema.String,
  outcome: Schema.Literals(["done", "error", "retry", "released", "cancelled"]),
  worker: Schema.NullOr(Schema.String),
  /** Null where nobody had claimed the task. */
  startedAt: Schema.NullOr(Time),
  endedAt: Time,
  durationMs: Schema.NullOr(Millis),
  error: Schema.NullOr(TaskEvent.Failure),
  /** Why it was released or cancelled. */
  reason: Schema.NullOr(Schema.String),
  /** When the next attempt is due. */
  runAt: Schema.NullOr(Time)
})
/**
 * @category models
 * @since 0.1.0
 */
export type Attempt = typeof Attempt.Type

/**
 * What a cancel took, step by step; null is what has not happened, or was not recorded.
 *
 * @category models
 * @since 0.1.0
 */
export const Cancellation = Schema.Struct({
  /** When the cancel was committed. */
  requestedAt: Schema.NullOr(Time),
  /** From there to the closing event. */
  totalMs: Schema.NullOr(Millis),
  /** From the commit until the handler was interrupted: all that the finalizers and the last write did not take. */
  noticedMs: Schema.NullOr(Millis),
  /** From the interruption until the handler and its finalizers had ended. */
  unwoundMs: Schema.NullOr(Millis)
})
/**
 * @category models
 * @since 0.1.0
 */
export type Cancellation = typeof Cancellation.Type

/**
 * A task with everything that is known of it.
 *
 * @category models
 * @since 0.1.0
 */
export const TaskDetail = Schema.Struct({
  ...TaskSummary.fields,
  payload: Schema.Json,
  result: Schema.Json,
  error: Schema.NullOr(TaskEvent.Failure),
  metadata: Schema.Json,
  /** Of these values only the size is told, as it is more than 256 KiB of JSON; they are null here. */
  omitted: Schema.Array(Schema.Struct({
    value: Schema.Literals(["payload", "result", "error", "metadata"]),
    bytes: Schema.Int
  })),
  uniqueKey: Schema.NullOr(Schema.String),
  timeoutMs: Schema.NullOr(Millis),
  epoch: Schema.String,
  leaseExpiresAt: Schema.NullOr(Time),
  /** Whether a worker of this process has a handler for the type; null where no worker runs here. */
  handledHere: Schema.NullOr(Schema.Boolean),
  /** The claims that ended, oldest first, at most 200 of the latest. */
  attemptsEnded: Schema.Array(Attempt),
  /** The worker that completed it, where the table has a column for it: of a plain task there is no event that says so. */
  completedBy: Schema.NullOr(Schema.String),
  timing: Schema.Struct({
    /** The database's clock when this was read. */
    now: Time,
    /** From due to its last claim, or until now. */
    waitedMs: Schema.NullOr(Millis),
    /** From its last claim to its end, or until now. */
    ranMs: Schema.NullOr(Millis),
    /** Since the lease was last renewed, as far as the lease's length tells. */
    leaseExpiresInMs: Schema.NullOr(Millis)
  }),
  cancellation: Schema.NullOr(Cancellation)
})
/**
 * @category models
 * @since 0.1.0
 */
export type TaskDetail = typeof TaskDetail.Type

/**
 * One page, newest first.
 *
 * @category models
 * @since 0.1.0
 */
export const TaskPage = Schema.Struct({
  tasks: Schema.Array(TaskSummary),
  /** Pass it as `before` for what follows; null at the end. A page can be empty and have a next one. */
  next: Schema.NullOr(TaskId),
  /** How many match at all. */
  total: Count
})
/**
 * @category models
 * @since 0.1.0
 */
export type TaskPage = typeof TaskPage.Type

/**
 * Failures of one type with one tag and message, most frequent first, among the newest that match; at most 50 groups.
 *
 * @category models
 * @since 0.1.0
 */
export const FailureGroups = Schema.Array(Schema.Struct({
  type: Schema.String,
  tag: Schema.String,
  /** Its first 300 characters. */
  message: Schema.String,
  count: Schema.Int,
  /** The newest of them. */
  id: TaskId,
  finishedAt: Schema.NullOr(Time)
}))
/**
 * @category models
 * @since 0.1.0
 */
export type FailureGroups = typeof FailureGroups.Type

/**
 * The counters of this process since its start.
 *
 * @category models
 * @since 0.1.0
 */
export const Counts = Schema.Struct({
  claimed: Schema.Int,
  completed: Schema.Int,
  failed: Schema.Int,
  cancelled: Schema.Int,
  retried: Schema.Int,
  released: Schema.Int
})
/**
 * @category models
 * @since 0.1.0
 */
export type Counts = typeof Counts.Type

/**
 * A queue, over all workers. With more than 1,000 combinations of type, queue and priority among what is queued, some
 * queues can be left out and every count of queued tasks is capped.
 *
 * @category models
 * @since 0.1.0
 */
export const QueueState = Schema.Struct({
  name: Schema.String,
  /** Queued and due. */
  due: Count,
  /** Queued for later. */
  scheduled: Count,
  processing: Count,
  /** How long the oldest due task has waited. */
  oldestDueAgeMs: Schema.NullOr(Millis),
  /** What this process has ended of it within the last minute. */
  endedLastMinute: Schema.Struct({ completed: Schema.Int, failed: Schema.Int, cancelled: Schema.Int })
})
/**
 * @category models
 * @since 0.1.0
 */
export type QueueState = typeof QueueState.Type

/**
 * This process, and the tables over all workers.
 *
 * @category models
 * @since 0.1.0
 */
export const Overview = Schema.Struct({
  /** The worker's id as in `lockedBy`; null where no worker runs in this process. */
  id: Schema.NullOr(Schema.String),
  host: Schema.String,
  pid: Schema.Int,
  version: Schema.String,
  started: Time,
  uptimeMs: Millis,
  counts: Counts,
  running: Schema.Array(Schema.Struct({
    id: TaskId,
    type: Schema.String,
    queue: Schema.String,
    attempt: Schema.Int,
    runningForMs: Millis
  })),
  /** The last 100 that ended here, latest first. */
  recent: Schema.Array(Schema.Struct({
    id: TaskId,
    type: Schema.String,
    queue: Schema.String,
    status: Schema.Literals(["completed", "failed", "retried", "cancelled", "released"]),
    endedAt: Time,
    durationMs: Schema.NullOr(Millis),
    error: Schema.NullOr(Schema.Struct({ tag: Schema.String, message: Schema.String }))
  })),
  /** Over all workers. */
  depth: Schema.Struct({
    queued: Count,
    processing: Count,
    completed: Count,
    failed: Count,
    cancelled: Count
  }),
  /** Over all workers, by name. */
  queues: Schema.Array(QueueState),
  /** How long the oldest due task of any queue has waited. */
  oldestQueuedAgeMs: Schema.NullOr(Millis),
  /** Types that wait although no worker of this process has a handler for them. */
  unhandledTypes: Schema.Array(Schema.String)
})
/**
 * @category models
 * @since 0.1.0
 */
export type Overview = typeof Overview.Type

/**
 * What this process did over time, oldest first; times without a sample are left out.
 *
 * @category models
 * @since 0.1.0
 */
export const Series = Schema.Struct({
  /** The length of a bucket. */
  bucketMs: Millis,
  buckets: Schema.Array(Schema.Struct({
    /** Where it begins. */
    at: Time,
    completed: Schema.Int,
    failed: Schema.Int,
    retried: Schema.Int,
    cancelled: Schema.Int,
    /** From due to started, of the attempts started within it; null where there were none. */
    waitP50Ms: Schema.NullOr(Millis),
    waitP95Ms: Schema.NullOr(Millis),
    /** From started to ended, of the attempts ended within it. */
    runP50Ms: Schema.NullOr(Millis),
    runP95Ms: Schema.NullOr(Millis)
  }))
})
/**
 * @category models
 * @since 0.1.0
 */
export type Series = typeof Series.Type

/**
 * A type that a worker of this process handles, and what its definition says.
 *
 * @category models
 * @since 0.1.0
 */
export const TypeDefinition = Schema.Struct({
  type: Schema.String,
  queue: Schema.String,
  priority: Schema.Int,
  maxAttempts: Schema.Int,
  timeoutMs: Schema.NullOr(Millis),
  /** JSON Schema, draft 2020-12, of the payload as it is stored; null where it cannot be expressed. */
  payload: Schema.NullOr(Schema.Json)
})
/**
 * @category models
 * @since 0.1.0
 */
export type TypeDefinition = typeof TypeDefinition.Type

/**
 * A task to enqueue.
 *
 * @category models
 * @since 0.1.0
 */
export const NewTask = Schema.Struct({
  type: Schema.NonEmptyString,
  payload: Schema.optionalKey(Schema.Json),
  queue: Schema.optionalKey(Schema.String),
  priority: Schema.optionalKey(Schema.Int),
  maxAttempts: Schema.optionalKey(Schema.Int),
  timeoutMs: Schema.optionalKey(Schema.Int),
  /** Not before; excludes `delayMs`. */
  runAt: Schema.optionalKey(Time),
  delayMs: Schema.optionalKey(Schema.Int),
  tag: Schema.optionalKey(Schema.String),
  userId: Schema.optionalKey(Schema.String),
  uniqueKey: Schema.optionalKey(Schema.String),
  metadata: Schema.optionalKey(Schema.Record(Schema.String, Schema.Json))
})
/**
 * @category models
 * @since 0.1.0
 */
export type NewTask = typeof NewTask.Type

/**
 * Narrows a list; what is left out matches everything.
 *
 * @category models
 * @since 0.1.0
 */
export const filterFields = {
  status: Schema.optionalKey(Status),
  type: Schema.optionalKey(Text),
  queue: Schema.optionalKey(Text),
  tag: Schema.optionalKey(Text),
  userId: Schema.optionalKey(Text),
  /**
   * An id, or a piece of the type, tag, user, unique key, payload, metadata or error message, in any case. Payloads,
   * metadata and errors of more than 64 KiB as stored are not looked into.
   */
  q: Schema.optionalKey(Text)
}

/**
 * @category models
 * @since 0.1.0
 */
export const Filter = Schema.Struct(filterFields)
/**
 * @category models
 * @since 0.1.0
 */
export type Filter = typeof Filter.Type

/**
 * What a bulk action has done so far.
 *
 * @category models
 * @since 0.1.0
 */
export const BulkOutcome = Schema.Struct({
  /** Cancelled, or queued again. */
  changed: Schema.Int,
  /** Matched, but were in a state that the action does not apply to by then. */
  unchanged: Schema.Int,
  /** Locked by another transaction all along, so left as they were: the same call from the start tries them again. */
  busy: Schema.Int,
  /** The same call goes on with it as `before`; null when all that matched were seen. */
  next: Schema.NullOr(TaskId)
})
/**
 * @category models
 * @since 0.1.0
 */
export type BulkOutcome = typeof BulkOutcome.Type

/**
 * Whether a background loop of the worker turns.
 *
 * @category models
 * @since 0.1.0
 */
export const Health = Schema.Struct({
  status: Schema.Literals(["ok", "failing"]),
  /** What is wrong, a line each. */
  problems: Schema.Array(Schema.String),
  loops: Schema.Array(Schema.Struct({
    name: Schema.String,
    ok: Schema.Boolean,
    /** Since its last turn that succeeded; null before the first. */
    lastTurnAgoMs: Schema.NullOr(Millis)
  }))
})
/**
 * @category models
 * @since 0.1.0
 */
export type Health = typeof Health.Type
