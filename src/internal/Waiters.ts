/**
 * Wakes those who wait for the end of a task's story.
 *
 * A wake-up says "read again", nothing more. It comes when a look at all tasks that something was heard of, and every
 * second at all that are waited for, finds the story over.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as RcRef from "effect/RcRef"
import type * as Scope from "effect/Scope"
import * as Db from "../Db.ts"
import type * as TaskTable from "../storage/TaskTable.ts"
import type * as Notices from "./Notices.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Waiters {
  /** Waits until the scope closes. Wake-ups that were not taken are one. */
  readonly wakeUps: (id: bigint) => Effect.Effect<Queue.Dequeue<void>, never, Scope.Scope>
}

const pollInterval = "1 second"
const patience = "5 seconds"

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  table: TaskTable.TaskTable,
  notices: Notices.Notices
): Effect.fn.Return<Waiters, never, Scope.Scope> {
  const shared = yield* RcRef.make({ acquire: watch(table, notices) })
  return {
    wakeUps: Effect.fnUntraced(function*(id) {
      const waiters = yield* RcRef.get(shared)
      return yield* Effect.acquireRelease(
        Effect.map(Queue.sliding<void>(1), (queue) => {
          const others = waiters.get(id)
          if (others === undefined) waiters.set(id, new Set([queue]))
          else others.add(queue)
          return queue
        }),
        (queue) =>
          Effect.sync(() => {
            const all = waiters.get(id)!
            all.delete(queue)
            if (all.size === 0) waiters.delete(id)
          })
      )
    })
  }
})

const watch = Effect.fnUntraced(function*(
  table: TaskTable.TaskTable,
  notices: Notices.Notices
): Effect.fn.Return<Map<bigint, Set<Queue.Queue<void>>>, never, Scope.Scope> {
  const waiters = new Map<bigint, Set<Queue.Queue<void>>>()
  const suspects = new Set<bigint>()
  const suspected = yield* Queue.sliding<void>(1)

  const suspect = (ids: Iterable<bigint>) => {
    for (const id of ids) {
      if (waiters.has(id)) suspects.add(id)
    }
    if (suspects.size > 0) Queue.offerUnsafe(suspected, undefined)
  }

  // Most notices tell of an event on the way. A waiter is woken when the look finds the end, or cannot tell: then each
  // asks for itself, and has the error.
  const look = Effect.gen(function*() {
    yield* Queue.take(suspected)
    const ids = [...suspects]
    suspects.clear()
    const unfinished = yield* Effect.exit(Db.patiently(table.unfinished(ids), patience))
    for (const id of ids) {
      if (Exit.isSuccess(unfinished) && Option.exists(unfinished.value, (known) => known.has(id))) continue
      waiters.get(id)?.forEach((queue) => Queue.offerUnsafe(queue, undefined))
    }
  })

  yield* notices.subscribe((notice) => suspect(notice._tag === "Tasks" ? notice.ids : waiters.keys()))
  yield* Effect.forkScoped(Effect.forever(look))
  yield* Effect.forkScoped(
    Effect.forever(Effect.andThen(Effect.sleep(pollInterval), Effect.sync(() => suspect(waiters.keys()))))
  )
  return waiters
})
