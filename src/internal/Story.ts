/**
 * The events of a task as a stream, from a position to the end of its story.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as StorageError from "../storage/StorageError.ts"
import type * as StoryTable from "../storage/StoryTable.ts"
import { failure } from "../storage/TaskTable.ts"
import type * as Task from "../Task.ts"
import * as TaskEvent from "../TaskEvent.ts"
import type { Reason, StoredEvent } from "../TaskQueue.ts"
import type * as Followers from "./Followers.ts"

/**
 * Reads what is there on the application's client, page by page, and then waits among the followers for more until the
 * story is over. Fails if the database is away at first; later it waits for it.
 *
 * Over means: the status is final, nobody holds the task, and the event that closes the row's epoch has been passed on.
 * A closing event of an older epoch does not end it, as the task was run again. Where a completed or failed task has no
 * closing event one is made from the row; a cancelled task gets its own from the trigger or from a worker.
 *
 * @category constructors
 * @since 0.1.0
 */
export const events = (
  table: StoryTable.StoryTable,
  followers: Followers.Followers,
  id: Task.TaskId,
  after: TaskEvent.Position,
  expected: string | undefined
): Stream.Stream<StoredEvent, Reason | StorageError.StorageError> =>
  Stream.unwrap(Effect.gen(function*() {
    if (!isPosition(after)) {
      const given = `${String(after.epoch)}-${String(after.seq)}`
      return yield* Effect.fail<Reason>({
        _tag: "InvalidOptions",
        issue: `after is ${given}, expected an epoch below 2^63 and a seq below 2^31, such as 1-17`
      })
    }
    const scope = yield* Effect.scope
    const follow = yield* Effect.cached(Scope.provide(followers.follow(id), scope))

    const read = (position: TaskEvent.Position, wait: boolean) =>
      wait
        ? Effect.flatMap(follow, ({ next }) => next(position))
        : Effect.map(table.pages([{ id, position }]), ([page]) => page)

    const step = Effect.fnUntraced(function*({ position, wait }: State): Effect.fn.Return<
      readonly [ReadonlyArray<StoredEvent>, Option.Option<State>],
      Reason | StorageError.StorageError
    > {
      const page = yield* read(position, wait)
      if (page === undefined) return yield* Effect.fail<Reason>({ _tag: "NotFound", id })
      if (expected !== undefined && page.type !== expected) {
        return yield* Effect.fail<Reason>({ _tag: "WrongType", id, expected, actual: page.type })
      }
      const next = page.events.at(-1)?.position ?? position
      if (page.more) return [page.events, Option.some({ position: next, wait })]
      const goOn = [page.events, Option.some({ position: next, wait: true })] as const
      if (!page.over) return goOn
      // It may be of the run before: a task that is run again and cancelled keeps its epoch until somebody closes it.
      if (page.ending.type === closingOf[page.status]) return [page.events, Option.none()]
      if (page.status === "cancelled") return goOn
      const closing = closingFromRow(page)
      return [isBefore(next, closing.position) ? [...page.events, closing] : page.events, Option.none()]
    })

    return Stream.paginate<State, StoredEvent, Reason | StorageError.StorageError>(
      { position: after, wait: false },
      step
    )
  }))

interface State {
  readonly position: TaskEvent.Position
  /** Whether it has once read to the end. */
  readonly wait: boolean
}

const isPosition: (position: TaskEvent.Position) => boolean = Schema.is(TaskEvent.Position)

const closingOf: { readonly [status: string]: string } = { completed: "done", failed: "error", cancelled: "cancelled" }

const isBefore = (a: TaskEvent.Position, b: TaskEvent.Position) =>
  a.epoch < b.epoch || (a.epoch === b.epoch && a.seq < b.seq)

const closingFromRow = ({ ending, epoch, status }: StoryTable.Page): StoredEvent => ({
  position: { epoch, seq: ending.seq + 1 },
  type: status === "completed" ? "done" : "error",
  data: {
    ...(status === "failed" ? { ...failure(ending.error), willRetry: false } : {}),
    ...(ending.startedAt === null ? {} : { startedAt: DateTime.formatIso(ending.startedAt) })
  },
  createdAt: ending.closedAt
})
