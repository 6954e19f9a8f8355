/**
 * The events of a task as a stream, from a position to the end of its story.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as EventTable from "../storage/EventTable.ts"
import type * as StorageError from "../storage/StorageError.ts"
import { failure } from "../storage/TaskTable.ts"
import type * as Task from "../Task.ts"
import type * as TaskEvent from "../TaskEvent.ts"
import type { Reason, StoredEvent } from "../TaskQueue.ts"
import type * as Watch from "./Watch.ts"

const pageSize = 500

/**
 * Reads a page, passes it on, and waits for more until the story is over.
 *
 * Over means: the status is final, nobody holds the task, and the event that closes the row's epoch has been passed on.
 * A closing event of an older epoch does not end it, as the task was run again. Where a completed or failed task has no
 * closing event one is made from the row; a cancelled task gets its own from the trigger or from a worker.
 *
 * @category constructors
 * @since 0.1.0
 */
export const events = (
  table: EventTable.EventTable,
  watch: Watch.Watch,
  id: Task.TaskId,
  after: TaskEvent.Position,
  expected: string | undefined
): Stream.Stream<StoredEvent, Reason | StorageError.StorageError> =>
  Stream.unwrap(Effect.map(Effect.scope, (scope) => {
    let wakeUps: Queue.Dequeue<void> | undefined

    const more = Effect.gen(function*() {
      if (wakeUps !== undefined) return yield* Queue.take(wakeUps)
      wakeUps = yield* Scope.provide(watch.wakeUps(id, "event"), scope)
    })

    const step = Effect.fnUntraced(function*({ position, wait }: State): Effect.fn.Return<
      readonly [ReadonlyArray<StoredEvent>, Option.Option<State>],
      Reason | StorageError.StorageError
    > {
      if (wait) yield* more
      const page = yield* table.page(id, position, pageSize)
      if (page === undefined) return yield* Effect.fail<Reason>({ _tag: "NotFound", id })
      if (expected !== undefined && page.type !== expected) {
        return yield* Effect.fail<Reason>({ _tag: "WrongType", id, expected, actual: page.type })
      }
      const last = page.events.at(-1)
      const next = last?.position ?? position
      if (page.events.length === pageSize) return [page.events, Option.some({ position: next, wait: false })]
      if (!page.over) return [page.events, Option.some({ position: next, wait: true })]
      if (last?.position.epoch === page.epoch && closesTask(last.type)) return [page.events, Option.none()]

      const ending = yield* table.ending(id)
      if (ending === undefined) return yield* Effect.fail<Reason>({ _tag: "NotFound", id })
      const { epoch, over, seq, status, type } = ending
      if (!over) return [page.events, Option.some({ position: next, wait: true })]
      if (type !== null && isBefore(next, { epoch, seq })) {
        return [page.events, Option.some({ position: next, wait: false })]
      }
      if (type !== null && closesTask(type)) {
        return [page.events, Option.none()]
      }
      if (status === "cancelled") return [page.events, Option.some({ position: next, wait: true })]
      const closing = closingFromRow(ending)
      return [isBefore(next, closing.position) ? [...page.events, closing] : page.events, Option.none()]
    })

    return Stream.paginate<State, StoredEvent, Reason | StorageError.StorageError>(
      { position: after, wait: false },
      step
    )
  }))

interface State {
  readonly position: TaskEvent.Position
  readonly wait: boolean
}

const closesTask = (type: string) => type === "done" || type === "error" || type === "cancelled"

const isBefore = (a: TaskEvent.Position, b: TaskEvent.Position) =>
  a.epoch < b.epoch || (a.epoch === b.epoch && a.seq < b.seq)

const closingFromRow = (row: EventTable.Ending): StoredEvent => ({
  position: { epoch: row.epoch, seq: row.seq + 1 },
  type: row.status === "completed" ? "done" : "error",
  data: {
    ...(row.status === "failed" ? { ...failure(row.error), willRetry: false } : {}),
    ...(row.started_at === null ? {} : { startedAt: DateTime.formatIso(DateTime.fromDateUnsafe(row.started_at)) })
  },
  createdAt: DateTime.fromDateUnsafe(row.closed_at)
})
