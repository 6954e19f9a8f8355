/**
 * The group `tasks`: find, enqueue, cancel, run again and follow.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Option from "effect/Option"
import * as Api from "../Api.ts"
import { HandlerRegistry } from "../HandlerRegistry.ts"
import type * as Waiting from "../internal/Waiting.ts"
import { Browse } from "../storage/Browse.ts"
import * as Steer from "../storage/Steer.ts"
import * as TaskDetail from "../storage/TaskDetail.ts"
import * as TaskPages from "../storage/TaskPages.ts"
import type * as Task from "../Task.ts"
import { TaskQueue, type TaskQueueError } from "../TaskQueue.ts"
import { Worker } from "../Worker.ts"
import * as Bulk from "./Bulk.ts"
import * as Filters from "./Filters.ts"
import { masked } from "./Masking.ts"
import * as NewTasks from "./NewTasks.ts"
import * as Streams from "./Streams.ts"
import * as TaskViews from "./TaskViews.ts"
import * as Unavailable from "./Unavailable.ts"

const defaultLimit = 50
const maxRounds = 100

/**
 * @category layers
 * @since 0.1.0
 */
export const layer = HttpApiBuilder.group(
  Api.Api,
  "tasks",
  Effect.fnUntraced(function*(handlers) {
    const browse = yield* Browse
    const queue = yield* TaskQueue
    const registry = yield* Effect.serviceOption(HandlerRegistry)
    const serving = servingNow(yield* Effect.serviceOption(Worker), registry)

    return handlers.handleAll({
      list: ({ query: { before, limit = defaultLimit, ...filter } }) =>
        browse.look("list tasks", (tables) =>
          Effect.andThen(
            Filters.check(tables, filter),
            Effect.all({
              page: TaskPages.page(tables, filter, before, limit),
              total: TaskPages.count(tables, filter)
            })
          )).pipe(
            Effect.catchTag("StorageError", (error) => Effect.fail(Unavailable.fromStorage(error))),
            Effect.zipWith(serving, ({ page: { next, rows }, total: { capped, count } }, servingTask) => ({
              tasks: rows.map((row) => TaskViews.summary(row, servingTask(row.id))),
              next: next as Task.TaskId | null,
              // What is listed is counted, and a list that ends is all there is.
              total: before === undefined && next === null
                ? { count: rows.length, capped: false }
                : { count: Math.max(count, rows.length), capped }
            }))
          ),
      failures: ({ query: filter }) =>
        browse.look(
          "group the failures",
          (tables) => Effect.andThen(Filters.check(tables, filter), TaskPages.failures(tables, filter))
        ).pipe(
          Effect.catchTag("StorageError", (error) => Effect.fail(Unavailable.fromStorage(error))),
          Effect.map((groups) =>
            groups.map(({ count, finished_at, id, message, tag, type }) => ({
              type,
              tag,
              message,
              count,
              id: id as Task.TaskId,
              finishedAt: finished_at && DateTime.fromDateUnsafe(finished_at)
            }))
          )
        ),
      get: Effect.fnUntraced(function*({ params: { id } }) {
        const found = yield* Effect.mapError(
          browse.look("read the task", (tables) => TaskDetail.read(tables, id)),
          Unavailable.fromStorage
        )
        if (found === undefined) return yield* notFound(id)
        const { closings, row } = found
        return TaskViews.detail(row, closings, TaskDetail.maxValueBytes, (yield* serving)(id))
      }),
      enqueue: ({ payload }) =>
        Effect.map(
          NewTasks.enqueue(queue, registry, payload),
          ({ duplicate, id }) => duplicate ? { id, duplicate } : { id, duplicate }
        ),
      cancel: Effect.fnUntraced(function*({ params: { id } }) {
        const outcome = yield* asked(queue.cancel(id))
        return outcome === "not_found" ? yield* notFound(id) : { outcome }
      }),
      retry: Effect.fnUntraced(function*({ params: { id }, payload }) {
        const outcome = yield* asked(queue.retry(id, payload))
        if (outcome === "not_found") return yield* notFound(id)
        return outcome === "queued" ? { outcome } : yield* new Api.Conflict({ outcome, detail: conflicts[outcome] })
      }),
      runNow: Effect.fnUntraced(function*({ params: { id } }) {
        for (let round = 0; round < maxRounds; round++) {
          const row = yield* Effect.mapError(
            browse.change("run the task now", (tables) => Steer.runNow(tables, id)),
            Unavailable.fromStorage
          )
          if (row === undefined) return yield* notFound(id)
          if (row.status !== "queued") {
            return yield* new Api.Conflict({
              outcome: "not_queued",
              detail: `It is ${row.status}: only a queued task can be run now`
            })
          }
          if (!row.waits) return { outcome: "queued" as const }
        }
        return yield* new Api.Unavailable({ detail: `Task ${id} is put off all the time` })
      }),
      bulk: Effect.fnUntraced(function*({ payload: { action, before, filter } }) {
        return yield* Bulk.run(browse, action, filter, before).pipe(
          Effect.catchTag("StorageError", (error) => Effect.fail(Unavailable.fromStorage(error)))
        )
      })
    }).handleRaw(
      "events",
      ({ headers, params: { id }, query: { after } }) =>
        Streams.taskEvents(id, headers["last-event-id"] ?? after, { transform: ({ data }) => masked(data) }).pipe(
          Effect.provideService(TaskQueue, queue)
        )
    )
  })
)

/** What the worker of this process takes, asked anew for each answer; nothing is known where none runs. */
const servingNow = (
  worker: Option.Option<Worker["Service"]>,
  registry: Option.Option<HandlerRegistry["Service"]>
): Effect.Effect<(id: bigint) => Waiting.Serving | undefined> => {
  if (Option.isNone(worker) || Option.isNone(registry)) return Effect.succeed(() => undefined)
  const handled = new Set(registry.value.types)
  const { concurrency, health, queues, running, takes } = worker.value
  return Effect.zipWith(health, running, ({ problems }, running) => (id) => ({
    handles: (type) => handled.has(type),
    takes,
    queues,
    setAside: problems.find((problem) => problem.startsWith(`task ${id} `)),
    full: running < concurrency ? undefined : running
  }))
}

const notFound = (id: Task.TaskId) => new Api.NotFound({ detail: `There is no task ${id}` })

const conflicts = {
  still_stopping: "It is cancelled, and its finalizers are still running: try again in a moment",
  duplicate: "Another task holds its unique key by now",
  not_finished: "It is queued or processing: only a finished task can be run again"
}

const asked = <A>(self: Effect.Effect<A, TaskQueueError>) =>
  Effect.catchTag(
    Unavailable.patiently(self),
    "TaskQueueError",
    (error) => Effect.fail(Unavailable.fromQueue(error))
  )
