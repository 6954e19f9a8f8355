/**
 * Wakes those who wait for a task or follow it: one connection and one poll for all of them.
 *
 * Both start with the first waiter and end after the last. A wake-up says "read again", nothing more. It comes with a
 * notification, after each subscription, and every second in case neither does.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as RcRef from "effect/RcRef"
import type * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Db from "../Db.ts"
import * as Listener from "../storage/Listener.ts"
import * as Names from "../storage/Names.ts"
import type * as TaskTable from "../storage/TaskTable.ts"

/**
 * What a waiter is woken for: any event of the task, or the end of its story.
 *
 * @category models
 * @since 0.1.0
 */
export type Purpose = "event" | "end"

/**
 * @category models
 * @since 0.1.0
 */
export interface Watch {
  /** Watches a task until the scope closes. Wake-ups that were not taken are one. */
  readonly wakeUps: (id: bigint, purpose: Purpose) => Effect.Effect<Queue.Dequeue<void>, never, Scope.Scope>
}

type Waiters = Map<bigint, Set<Queue.Queue<void>>>

const pollInterval = "1 second"
const patience = "5 seconds"

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  sql: SqlClient.SqlClient,
  schema: string,
  table: TaskTable.TaskTable
): Effect.fn.Return<Watch, never, Scope.Scope> {
  const hub = yield* RcRef.make({ acquire: makeHub(sql, schema, table) })
  return {
    wakeUps: Effect.fnUntraced(function*(id, purpose) {
      const waiters = (yield* RcRef.get(hub))[purpose]
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

const makeHub = Effect.fnUntraced(function*(
  sql: SqlClient.SqlClient,
  schema: string,
  table: TaskTable.TaskTable
): Effect.fn.Return<{ readonly [Key in Purpose]: Waiters }, never, Scope.Scope> {
  const waiters = { event: new Map() as Waiters, end: new Map() as Waiters }
  const suspects = new Set<bigint>()
  const suspected = yield* Queue.sliding<void>(1)
  const signals = yield* Listener.make(Db.connection(sql), [Names.channel(schema, "task_events")])

  const wake = (id: bigint) => {
    waiters.event.get(id)?.forEach((queue) => Queue.offerUnsafe(queue, undefined))
    if (!waiters.end.has(id)) return
    suspects.add(id)
    Queue.offerUnsafe(suspected, undefined)
  }
  const wakeAll = Effect.sync(() => {
    for (const id of waiters.event.keys()) wake(id)
    for (const id of waiters.end.keys()) wake(id)
  })

  // Most notifications tell of an event on the way. Who waits for the end is woken when one look
  // at all of them finds it, or cannot tell: then each asks for itself, and has the error.
  const look = Effect.gen(function*() {
    yield* Queue.take(suspected)
    const ids = [...suspects]
    suspects.clear()
    const unfinished = yield* Effect.exit(Db.patiently(table.unfinished(ids), patience))
    for (const id of ids) {
      if (Exit.isSuccess(unfinished) && Option.exists(unfinished.value, (known) => known.has(id))) continue
      waiters.end.get(id)?.forEach((queue) => Queue.offerUnsafe(queue, undefined))
    }
  })

  const hear = Effect.gen(function*() {
    for (const signal of yield* Queue.takeAll(signals)) {
      if (signal._tag === "Subscribed" || signal.payload === "*") {
        yield* wakeAll
      } else {
        for (const id of signal.payload.split(",")) {
          if (/^\d{1,19}$/.test(id)) wake(BigInt(id))
        }
      }
    }
  })

  yield* Effect.forkScoped(Effect.forever(hear))
  yield* Effect.forkScoped(Effect.forever(look))
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(pollInterval), wakeAll)))
  return waiters
})
