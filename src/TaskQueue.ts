/**
 * The producer's side: enqueue, cancel, run again, and observe tasks.
 *
 * Built on the `SqlClient` in scope, so that inside that client's `withTransaction` a task becomes visible only if the
 * transaction commits. Workers are woken by the tables' triggers.
 *
 * ```
 *             ┌──────────── retry, release ───────────┐
 *             ▼                                       │
 *          queued ── claim ──▶ processing ── outcome ─┼──▶ completed
 *             │                    │                  └──▶ failed
 *             └────── cancel ──────┴─────────────────────▶ cancelled
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as Db from "./Db.ts"
import * as Enqueue from "./internal/Enqueue.ts"
import * as Followers from "./internal/Followers.ts"
import * as NewTask from "./internal/NewTask.ts"
import * as Notices from "./internal/Notices.ts"
import * as Reading from "./internal/Reading.ts"
import * as Steering from "./internal/Steering.ts"
import * as Story from "./internal/Story.ts"
import * as StorageError from "./storage/StorageError.ts"
import * as StoryTable from "./storage/StoryTable.ts"
import * as TaskTable from "./storage/TaskTable.ts"
import * as Task from "./Task.ts"
import type * as TaskEvent from "./TaskEvent.ts"
import type * as TaskGroup from "./TaskGroup.ts"

/**
 * What went wrong.
 *
 * - `InvalidPayload`: the payload does not fit the task's schema
 * - `InvalidOptions`: an option is out of range; `issue` names it, what was given and what is allowed
 * - `NotFound`: there is no task with this id
 * - `WrongType`: the task has another type than the definition given
 * - `Unreadable`: what is stored does not fit the definition given
 * - `Unavailable`: the database cannot be reached or is busy; the same call can succeed later
 * - `Refused`: the database refuses: a missing table, a missing grant, a broken transaction
 *
 * @category errors
 * @since 0.1.0
 */
export const Reason = Schema.TaggedUnion({
  InvalidPayload: { type: Schema.String, issue: Schema.String },
  InvalidOptions: { issue: Schema.String },
  NotFound: { id: Task.TaskId },
  WrongType: { id: Task.TaskId, expected: Schema.String, actual: Schema.String },
  Unreadable: { id: Task.TaskId, issue: Schema.String },
  Unavailable: { cause: Schema.Defect() },
  Refused: { cause: Schema.Defect() }
})
/**
 * @category errors
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

/**
 * The one error of the queue; `Effect.catchReason` picks a reason.
 *
 * @category errors
 * @since 0.1.0
 */
export class TaskQueueError extends Schema.TaggedError<TaskQueueError>("spindle/TaskQueueError")("TaskQueueError", {
  reason: Reason
}) {
  override get message() {
    const { reason } = this
    switch (reason._tag) {
      case "InvalidPayload":
        return `The payload does not fit the task "${reason.type}": ${reason.issue}`
      case "InvalidOptions":
        return `Invalid option: ${reason.issue}`
      case "NotFound":
        return `There is no task ${reason.id}`
      case "WrongType":
        return `Task ${reason.id} is of the type "${reason.actual}", not "${reason.expected}"`
      case "Unreadable":
        return `What is stored of task ${reason.id} does not fit the definition given: ${reason.issue}`
      case "Unavailable":
        return `The database is away or busy, the same call can succeed later. ${messageOf(reason.cause)}`
      case "Refused":
        return isWithoutTables(reason.cause)
          ? `The database has no tables for tasks yet: start a worker once, or run \`spindle migrate\`. ${
            messageOf(reason.cause)
          }`
          : `The database refuses. ${messageOf(reason.cause)}`
    }
  }
}

const messageOf = (cause: unknown) => cause instanceof Error ? cause.message : String(cause)

const isWithoutTables = (cause: unknown) =>
  cause instanceof StorageError.StorageError && (cause.sqlState === "42P01" || cause.sqlState === "3F000")

/**
 * What overrules the task's definition, and what only this task has. `delay` and `runAt` exclude each other.
 *
 * @category models
 * @since 0.1.0
 */
export type EnqueueOptions =
  & {
    /** Higher runs first, from -32768 to 32767. Default 0. */
    readonly priority?: number | undefined
    readonly maxAttempts?: number | undefined
    /** Default: what the definition says where the task runs. */
    readonly timeout?: Duration.Input | undefined
    readonly queue?: string | undefined
    readonly unique?: Task.Unique | undefined
    /** A free label for finding it. */
    readonly tag?: string | undefined
    /** Whom it is for; messages go to them. */
    readonly userId?: string | undefined
    /** Whatever else is to be kept. While a span is active it gets `traceparent`, unless it has one. */
    readonly metadata?: Schema.JsonObject | undefined
  }
  & (
    | { readonly delay?: Duration.Input | undefined; readonly runAt?: undefined }
    | { readonly runAt?: DateTime.DateTime.Input | undefined; readonly delay?: undefined }
  )

/**
 * The new task, or with `duplicate` the one that already holds its unique key.
 *
 * @category models
 * @since 0.1.0
 */
export interface Enqueued {
  readonly id: Task.TaskId
  readonly duplicate: boolean
}

/**
 * What the task was found to be; `cancelled` only if this call did it.
 *
 * @category models
 * @since 0.1.0
 */
export type CancelOutcome = "cancelled" | "already_completed" | "already_failed" | "already_cancelled" | "not_found"

/**
 * - `queued`: it runs again
 * - `still_stopping`: it is cancelled and its finalizers are running
 * - `duplicate`: another task holds its unique key by now
 * - `not_finished`: it is queued or processing
 *
 * @category models
 * @since 0.1.0
 */
export type RetryOutcome = "queued" | "still_stopping" | "duplicate" | "not_finished" | "not_found"

/**
 * `queued → processing → completed / failed / cancelled`
 *
 * @category models
 * @since 0.1.0
 */
export type Status = "queued" | "processing" | "completed" | "failed" | "cancelled"

/**
 * The whole row, its JSON as stored: a number that JavaScript does not have is an object that `String` and
 * `JSON.stringify` write as it is stored.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoredTask extends Task.Row {
  readonly status: Status
  readonly payload: Schema.Json
  readonly result: Schema.Json
  readonly error: TaskEvent.Failure | null
  readonly attempts: number
  readonly maxAttempts: number
  readonly timeout: Duration.Duration | null
  readonly epoch: bigint
  readonly lockedBy: string | null
  readonly leaseExpiresAt: DateTime.Utc | null
  readonly uniqueKey: string | null
  readonly startedAt: DateTime.Utc | null
  readonly finishedAt: DateTime.Utc | null
}

/**
 * An event as it is stored, whatever the definition of its task says. Numbers are those of `StoredTask`.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoredEvent {
  readonly position: TaskEvent.Position
  readonly type: string
  readonly data: Schema.Json
  readonly createdAt: DateTime.Utc
}

/**
 * Narrows a list; what is left out matches everything.
 *
 * @category models
 * @since 0.1.0
 */
export interface Filter {
  readonly status?: Status | undefined
  readonly type?: string | undefined
  readonly queue?: string | undefined
  readonly tag?: string | undefined
  readonly userId?: string | undefined
  /** The last id of the page before. */
  readonly before?: Task.TaskId | undefined
  /** From 1 to 200. Default 50. */
  readonly limit?: number | undefined
  /** Whether payload, result and metadata, which can be large, are read. Else they are null, null and `{}`. Default true. */
  readonly values?: boolean | undefined
}

/**
 * Tasks per status, over all workers: rows as they are counted, so a large table takes its time.
 *
 * @category models
 * @since 0.1.0
 */
export type Stats = { readonly [Key in Status | "total"]: number }

/**
 * An event and where the reader stands after it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Followed<out T extends Task.Any> {
  readonly position: TaskEvent.Position
  readonly event: Task.Event<T> | TaskEvent.Progress | TaskEvent.Closing
}

/**
 * The producer's and the reader's side of the tables.
 *
 * @category services
 * @since 0.1.0
 */
export class TaskQueue extends Context.Service<TaskQueue, {
  /**
   * Stores a task. Fields of the payload that have a constructor default may be left out.
   *
   * Fails with `InvalidPayload` or `InvalidOptions` before any statement is sent.
   */
  readonly enqueue: <T extends Task.Any>(
    task: T,
    payload: Task.PayloadInput<T>,
    options?: EnqueueOptions
  ) => Effect.Effect<Enqueued, TaskQueueError, Task.EnqueueServices<T>>

  /**
   * Stores all of them, or none: one statement, or several in one transaction where there are unique keys or more than
   * 8 MiB. The answers are in the order of the items. Ids are too, except that tasks with unique keys come last and in the
   * order of their keys, so that callers with the same keys do not block each other. Of items with the same key the first
   * is stored, and the others are its duplicates.
   */
  readonly enqueueMany: <T extends Task.Any>(
    task: T,
    items: Iterable<{ readonly payload: Task.PayloadInput<T>; readonly options?: EnqueueOptions | undefined }>
  ) => Effect.Effect<ReadonlyArray<Enqueued>, TaskQueueError, Task.EnqueueServices<T>>

  /** Stores a task without its definition: for tools. The worker that claims it checks the payload. */
  readonly enqueueRaw: (
    type: string,
    payload: Schema.Json,
    options?: EnqueueOptions
  ) => Effect.Effect<Enqueued, TaskQueueError>

  /** Final as soon as it commits; a running handler is then interrupted, on whichever host it runs. */
  readonly cancel: (id: Task.TaskId) => Effect.Effect<CancelOutcome, TaskQueueError>

  /**
   * Queues a finished task again, at once. Unless they are reset, the attempts it had stay charged; if none is left, it
   * gets this one.
   */
  readonly retry: (
    id: Task.TaskId,
    options?: { readonly resetAttempts?: boolean | undefined }
  ) => Effect.Effect<RetryOutcome, TaskQueueError>

  readonly get: (id: Task.TaskId) => Effect.Effect<Option.Option<StoredTask>, TaskQueueError>

  /** Newest first, one page; the next one is `before` its last id. */
  readonly list: (filter?: Filter) => Effect.Effect<ReadonlyArray<StoredTask>, TaskQueueError>

  /**
   * Waits until the task's story is over. Success is the result and failure the error of the task; cancelled is an
   * interruption; anything else (a bug, a timeout, a rejected payload, …) is a defect: the stored `TaskEvent.Failure`.
   *
   * However many wait, they share one connection for notifications, beside the client's own.
   */
  readonly await: <T extends Task.Any>(
    task: T,
    id: Task.TaskId
  ) => Effect.Effect<Exit.Exit<Task.Success<T>, Task.Error<T>>, TaskQueueError, Task.ReadServices<T>>

  /**
   * Every event once, in order, from the start or after a position, across retries and workers. Ends with the event that
   * closes the task; where none is stored, `done` is made from the row. Of a task that was run again after its end it
   * tells both runs.
   *
   * Once it has begun it outlives an absence of the database. However many follow, they share two connections beside the
   * client's own, one for notifications and one for reading, and one statement reads for all that something happened to. A
   * follower that does not take what it is given is not read for, and goes on from there when it does.
   */
  readonly follow: <T extends Task.Any>(
    task: T,
    id: Task.TaskId,
    options?: { readonly after?: TaskEvent.Position | undefined }
  ) => Stream.Stream<Followed<T>, TaskQueueError, Task.ReadServices<T>>

  /** The same without the task's definition: for tools. */
  readonly events: (
    id: Task.TaskId,
    options?: { readonly after?: TaskEvent.Position | undefined }
  ) => Stream.Stream<StoredEvent, TaskQueueError>

  /** One statement that counts rows. */
  readonly stats: Effect.Effect<Stats, TaskQueueError>
}>()("spindle/TaskQueue") {}

const make = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const schema = yield* Db.Schema
  const table = TaskTable.make(sql, schema)
  const storyTable = StoryTable.make(sql, schema)
  const together = Enqueue.makeTogether(table)
  const notices = yield* Notices.make(sql, schema)
  const followers = yield* Followers.make(sql, schema, notices)

  const enqueueMany = Effect.fn("TaskQueue.enqueueMany", { kind: "producer" })(function*<T extends Task.Any>(
    task: T,
    items: Iterable<{ readonly payload: Task.PayloadInput<T>; readonly options?: EnqueueOptions | undefined }>
  ) {
    const newTask = NewTask.maker(task)
    const tasks = yield* Effect.forEach(items, ({ options, payload }) => newTask(payload, options))
    return yield* Enqueue.store(sql, table, together, task.type, tasks)
  }, refine)

  const enqueue = Effect.fn("TaskQueue.enqueue", { kind: "producer" })(function*<T extends Task.Any>(
    task: T,
    payload: Task.PayloadInput<T>,
    options?: EnqueueOptions
  ) {
    const [enqueued] = yield* Enqueue.store(sql, table, together, task.type, [
      yield* NewTask.maker(task)(payload, options)
    ])
    return enqueued!
  }, refine)

  const enqueueRaw = Effect.fn("TaskQueue.enqueueRaw", { kind: "producer" })(function*(
    type: string,
    payload: Schema.Json,
    options: EnqueueOptions = {}
  ) {
    const [enqueued] = yield* Enqueue.store(sql, table, together, type, [
      yield* NewTask.make(type, payload, options, {})
    ])
    return enqueued!
  }, refine)

  const cancel = Effect.fn("TaskQueue.cancel")((id: Task.TaskId) => refine(Steering.cancel(table, id)))

  const retry = Effect.fn("TaskQueue.retry")((
    id: Task.TaskId,
    options?: { readonly resetAttempts?: boolean | undefined }
  ) => refine(Steering.retry(sql, table, id, options?.resetAttempts ?? false)))

  const read = Effect.fnUntraced(function*<E>(
    task: Task.Any,
    id: Task.TaskId,
    row: Effect.Effect<StoryTable.Ended | undefined, E>
  ): Effect.fn.Return<StoryTable.Ended, Reason | E> {
    const ended = yield* row
    if (ended === undefined) return yield* Effect.fail<Reason>({ _tag: "NotFound", id })
    return ended.type === task.type
      ? ended
      : yield* Effect.fail<Reason>({ _tag: "WrongType", id, expected: task.type, actual: ended.type })
  })

  const await_ = Effect.fn("TaskQueue.await")(
    function*<T extends Task.Any>(task: T, id: Task.TaskId) {
      const now = yield* read(task, id, storyTable.ended(id))
      return yield* Reading.exit(task, now.over ? now : yield* read(task, id, (yield* followers.follow(id)).ended))
    },
    Effect.scoped,
    refine
  )

  const follow = <T extends Task.Any>(
    task: T,
    id: Task.TaskId,
    options?: { readonly after?: TaskEvent.Position | undefined }
  ): Stream.Stream<Followed<T>, TaskQueueError, Task.ReadServices<T>> =>
    Story.events(storyTable, followers, id, options?.after ?? start, task.type).pipe(
      Stream.mapEffect(Reading.event(task, id)),
      Stream.mapError(toError)
    )

  return TaskQueue.of({
    enqueue,
    enqueueMany,
    enqueueRaw,
    cancel,
    retry,
    get: (id) => refine(Effect.map(table.find(id), Option.fromUndefinedOr)),
    list: ({ before, limit = 50, queue, status, tag, type, userId, values = true } = {}) =>
      Number.isInteger(limit) && limit >= 1 && limit <= 200
        ? refine(table.list({ before, limit, queue, status, tag, type, userId, values }))
        : Effect.fail(
          toError({ _tag: "InvalidOptions", issue: `limit is ${limit}, expected an integer from 1 to 200` })
        ),
    await: await_,
    follow,
    events: (id, options) =>
      Stream.mapError(Story.events(storyTable, followers, id, options?.after ?? start, undefined), toError),
    stats: refine(table.stats)
  })
})

const start: TaskEvent.Position = { epoch: 0n, seq: 0 }

const toError = (error: Reason | StorageError.StorageError) =>
  new TaskQueueError({
    reason: error._tag === "StorageError" ? { _tag: error.transient ? "Unavailable" : "Refused", cause: error } : error
  })

const refine = <A, R>(
  self: Effect.Effect<A, Reason | StorageError.StorageError, R>
): Effect.Effect<A, TaskQueueError, R> => Effect.mapError(self, toError)

/**
 * A queue on the `SqlClient` in scope, in the schema `Db.Schema`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<TaskQueue, never, SqlClient.SqlClient> = Layer.effect(TaskQueue, make)

/**
 * The queue's typed methods, one set per task.
 *
 * @category models
 * @since 0.1.0
 */
export type Client<T extends Task.Any> = {
  readonly [Current in T as Current["type"]]: {
    readonly enqueue: (
      payload: Task.PayloadInput<Current>,
      options?: EnqueueOptions
    ) => Effect.Effect<Enqueued, TaskQueueError, Task.EnqueueServices<Current>>
    readonly enqueueMany: (
      items: Iterable<{ readonly payload: Task.PayloadInput<Current>; readonly options?: EnqueueOptions | undefined }>
    ) => Effect.Effect<ReadonlyArray<Enqueued>, TaskQueueError, Task.EnqueueServices<Current>>
    readonly await: (id: Task.TaskId) => Effect.Effect<
      Exit.Exit<Task.Success<Current>, Task.Error<Current>>,
      TaskQueueError,
      Task.ReadServices<Current>
    >
    readonly follow: (
      id: Task.TaskId,
      options?: { readonly after?: TaskEvent.Position | undefined }
    ) => Stream.Stream<Followed<Current>, TaskQueueError, Task.ReadServices<Current>>
  }
}

/**
 * A client with one method set per task of the group.
 *
 * @category constructors
 * @since 0.1.0
 */
export const client = <T extends Task.Any>(
  group: TaskGroup.TaskGroup<T>
): Effect.Effect<Client<T>, never, TaskQueue> =>
  Effect.map(TaskQueue, (queue) => {
    const methods: Array<readonly [string, unknown]> = []
    for (const task of group.tasks.values()) {
      methods.push([task.type, {
        enqueue: (payload: any, options?: EnqueueOptions) => queue.enqueue(task, payload, options),
        enqueueMany: (items: Iterable<any>) => queue.enqueueMany(task, items),
        await: (id: Task.TaskId) => queue.await(task, id),
        follow: (id: Task.TaskId, options?: { readonly after?: TaskEvent.Position | undefined }) =>
          queue.follow(task, id, options)
      }])
    }
    // a record by the types of the group cannot be followed by the compiler
    return Object.fromEntries(methods) as any
  })
