/**
 * Renews the leases of what this worker holds, and lets go of what it can no longer be sure of.
 *
 * A lease counts from the reply to the claim, and then from the moment a renewal was *sent*, on this process's monotonic
 * clock. Three quarters of it after the
 * last renewal that succeeded the handlers are stopped: their tasks may be somebody else's soon. That is a courtesy to
 * them; what keeps a late outcome out is the fence.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Db from "../Db.ts"
import type { StorageError } from "../storage/StorageError.ts"
import { TaskStore } from "../storage/TaskStore.ts"
import { type Attempt, keyOf, monotonicMillis } from "./Attempt.ts"
import { Claimer } from "./Claimer.ts"
import * as Loop from "./Loop.ts"
import { Measures } from "./Measures.ts"
import { Problems } from "./Problems.ts"
import { Pulses } from "./Pulse.ts"
import { inHalves, isOfRows, SetAside } from "./SetAside.ts"
import { Settings } from "./Settings.ts"
import { Supervisor } from "./Supervisor.ts"

/**
 * @category services
 * @since 0.1.0
 */
export class LeaseKeeper extends Context.Service<LeaseKeeper, {
  /** Renews, and watches that renewals succeed, for ever. */
  readonly run: ReadonlyArray<Effect.Effect<never>>
  /** Renews once, and gives back what a claim took whose reply never came. */
  readonly reconcile: Loop.Turn<StorageError>
}>()("spindle/LeaseKeeper") {
  static readonly layer: Layer.Layer<
    LeaseKeeper,
    never,
    TaskStore | Supervisor | Claimer | Measures | Problems | Pulses | Settings
  > = Layer.effect(
    LeaseKeeper,
    Effect.gen(function*() {
      const store = yield* TaskStore
      const supervisor = yield* Supervisor
      const claimer = yield* Claimer
      const measures = yield* Measures
      const pulses = yield* Pulses
      const { leaseMillis, workerId } = yield* Settings
      const clock = yield* Clock.Clock
      const now = () => monotonicMillis(clock)
      const aside = new SetAside(clock, yield* Problems, "be renewed")
      let renewedAt = now()

      const lose = ({ row }: Attempt) => {
        if (supervisor.interrupt(row, "lost")) measures.leasesLost++
      }

      const missed = Effect.sync(() => {
        measures.heartbeatsMissed++
      })

      // What is its own is told in any case: a lease that cannot be renewed is not one that was lost.
      const renewAll = Effect.suspend(() => {
        const givenUp = [...supervisor.held()].flatMap((attempt) => attempt.givenUp ? attempt.row.id : [])
        const except = [...aside.ids(), ...givenUp]
        return store.renew(workerId, leaseMillis, except).pipe(
          Effect.catchIf(isOfRows, () =>
            Effect.tap(store.own(workerId), (own) =>
              inHalves(
                own.flatMap(({ id }) => except.includes(id) ? [] : id),
                (ids) => store.renewThese(workerId, leaseMillis, ids),
                aside.add
              ))),
          Effect.tap(() => Effect.sync(() => aside.passed()))
        )
      })

      const renew: Loop.Turn<StorageError> = Effect.gen(function*() {
        const { doubt } = claimer
        const doubted = doubt.value
        const resolved = () => {
          if (doubt.value === doubted) doubt.value = "none"
        }
        const sentAt = now()
        const before = new Set([...supervisor.held()].map(({ key }) => key))
        const answer = yield* Effect.tapError(
          Db.patiently(renewAll, leaseMillis / 4),
          () => missed
        )
        if (Option.isNone(answer)) {
          yield* missed
          yield* Effect.logWarning("a heartbeat was not answered in time")
          return Loop.unanswered
        }
        renewedAt = sentAt
        const mine = new Set(answer.value.map(keyOf))
        for (const attempt of supervisor.held()) {
          if (before.has(attempt.key) && !mine.has(attempt.key)) lose(attempt)
        }
        const unknown = answer.value.filter((held) => !before.has(keyOf(held)))
        if (unknown.length === 0) return resolved()
        // They may be of a claim whose reply is on the way, or recorded by now. What is neither is nobody's. A claim that is
        // not answered does not hold up the heartbeat: the next one looks again.
        const settled = yield* Effect.timeoutOption(claimer.settled, leaseMillis / 8)
        if (Option.isNone(settled)) return
        for (const row of yield* store.inspect(unknown.map(({ id }) => id))) {
          if (row.lockedBy !== workerId || supervisor.holds(row)) continue
          yield* Effect.logWarning("a task is put back: the reply to its claim never came").pipe(
            Effect.annotateLogs({ taskId: String(row.id) })
          )
          supervisor.giveBack(row)
        }
        resolved()
      })

      const watch = Effect.suspend(() => {
        const tooLongAgo = now() - leaseMillis * 3 / 4
        if (renewedAt > tooLongAgo) return Effect.void
        const doubtful = [...supervisor.held()].filter((attempt) => attempt.leasedAt <= tooLongAgo && !attempt.closed)
        if (doubtful.length === 0) return Effect.void
        for (const attempt of doubtful) lose(attempt)
        return Effect.logWarning("the lease could not be renewed: its handlers are stopped and their tasks put back")
      })

      return LeaseKeeper.of({
        reconcile: renew,
        run: [
          Loop.every(pulses.make("renewing leases", leaseMillis / 4), renew),
          Loop.every(pulses.make("watching the lease", leaseMillis / 16), watch)
        ]
      })
    })
  )
}
