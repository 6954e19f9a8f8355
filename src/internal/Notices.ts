/**
 * What is heard of tasks whose events somebody waits for: one connection that listens for all of them.
 *
 * It is opened with the first subscriber and closed some time after the last.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as RcRef from "effect/RcRef"
import type * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Db from "../Db.ts"
import * as Listener from "../storage/Listener.ts"
import * as Names from "../storage/Names.ts"

/**
 * - `Subscribed`: from now on notices arrive; something may have happened to any task before
 * - `Lost`: notices no longer arrive, until `Subscribed`
 * - `Any`: something happened to so many tasks that they are not named
 * - `Tasks`: something happened to these
 *
 * @category models
 * @since 0.1.0
 */
export type Notice =
  | { readonly _tag: "Subscribed" }
  | { readonly _tag: "Lost" }
  | { readonly _tag: "Any" }
  | { readonly _tag: "Tasks"; readonly ids: ReadonlyArray<bigint> }

/**
 * @category models
 * @since 0.1.0
 */
export interface Notices {
  /** Tells every notice until the scope closes. */
  readonly subscribe: (hear: (notice: Notice) => void) => Effect.Effect<void, never, Scope.Scope>
}

// Whoever awaits or follows one task after the other does not open a connection for each.
export const idleTimeToLive = "10 seconds"

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  sql: SqlClient.SqlClient,
  schema: string
): Effect.fn.Return<Notices, never, Scope.Scope> {
  const shared = yield* RcRef.make({ acquire: listen(sql, schema), idleTimeToLive })
  return {
    subscribe: Effect.fnUntraced(function*(hear) {
      const subscribers = yield* RcRef.get(shared)
      yield* Effect.acquireRelease(
        Effect.sync(() => subscribers.add(hear)),
        () => Effect.sync(() => subscribers.delete(hear))
      )
    })
  }
})

const listen = Effect.fnUntraced(function*(
  sql: SqlClient.SqlClient,
  schema: string
): Effect.fn.Return<Set<(notice: Notice) => void>, never, Scope.Scope> {
  const subscribers = new Set<(notice: Notice) => void>()
  const tell = (notice: Notice) => subscribers.forEach((hear) => hear(notice))
  const signals = yield* Listener.make(
    Db.connection(sql),
    [Names.channel(schema, "task_events")],
    () => tell({ _tag: "Lost" })
  )
  const hear = Effect.gen(function*() {
    for (const signal of yield* Queue.takeAll(signals)) tell(noticeOf(signal))
  })
  yield* Effect.forkScoped(Effect.forever(hear))
  return subscribers
})

const noticeOf = (signal: Listener.Signal): Notice => {
  if (signal._tag === "Subscribed") return signal
  if (signal.payload === "*") return { _tag: "Any" }
  return { _tag: "Tasks", ids: signal.payload.split(",").filter((id) => /^\d{1,19}$/.test(id)).map(BigInt) }
}
