/**
 * Interrupts the handlers of tasks that have been cancelled, whoever cancelled them.
 *
 * The row decides. A notification is only a reason to read it, and while anything runs all rows are read every poll
 * interval.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type { StorageError } from "../storage/StorageError.ts"
import { TaskStore } from "../storage/TaskStore.ts"
import * as Loop from "./Loop.ts"
import { Measures } from "./Measures.ts"
import { Problems } from "./Problems.ts"
import { Pulses } from "./Pulse.ts"
import { inHalves, SetAside } from "./SetAside.ts"
import { Settings } from "./Settings.ts"
import { Supervisor } from "./Supervisor.ts"
import { WakeUps } from "./WakeUps.ts"

/**
 * @category services
 * @since 0.1.0
 */
export class CancelWatcher extends Context.Service<CancelWatcher, {
  /** Looks where notifications point to, and at everything every poll interval, for ever. */
  readonly run: ReadonlyArray<Effect.Effect<never>>
  /** Looks again at a task that was cancelled while its claim was on the way. */
  readonly claimed: (id: bigint) => void
}>()("spindle/CancelWatcher") {
  static readonly layer: Layer.Layer<
    CancelWatcher,
    never,
    TaskStore | Supervisor | WakeUps | Measures | Problems | Pulses | Settings
  > = Layer.effect(
    CancelWatcher,
    Effect.gen(function*() {
      const store = yield* TaskStore
      const supervisor = yield* Supervisor
      const { cancelled } = yield* WakeUps
      const { pollMillis, workerId } = yield* Settings
      const { cancelSeconds } = yield* Measures
      const pulses = yield* Pulses
      const pulse = pulses.make("cancelling")
      // Cancelled before the reply of their claim was here. They are looked at with the next poll, unless they come earlier.
      const early = new Set<bigint>()

      const aside = new SetAside(yield* Clock.Clock, yield* Problems, "be looked at for a cancel")

      const look = (ids: ReadonlyArray<bigint>): Effect.Effect<void, StorageError> =>
        Effect.suspend(() => {
          const except = aside.ids()
          return inHalves(
            ids.filter((id) => !except.includes(id)),
            (some) => store.cancelled(workerId, some),
            aside.add
          )
        }).pipe(
          Effect.map((answers) => {
            aside.passed()
            for (const row of answers.flat()) {
              const interrupted = supervisor.interrupt(row, "cancelled")
              if (interrupted && row.cancelledForMillis !== null) cancelSeconds.observe(row.cancelledForMillis / 1000)
            }
          })
        )

      const all = Effect.suspend(() => {
        early.clear()
        return look([...new Set([...supervisor.held()].map(({ row }) => row.id))])
      })

      const hinted = Effect.gen(function*() {
        const hints = yield* pulse.rest(Queue.takeAll(cancelled))
        if (hints.includes(undefined)) return yield* all
        const ids = new Set(hints as ReadonlyArray<bigint>)
        const held = new Set<bigint>()
        for (const { row } of supervisor.held()) if (ids.has(row.id)) held.add(row.id)
        for (const id of ids) if (!held.has(id) && early.size < 1000) early.add(id)
        yield* look([...held])
      }).pipe(Effect.tapError(() => Queue.offer(cancelled, undefined)))

      return CancelWatcher.of({
        run: [Loop.turns(pulse, hinted), Loop.every(pulses.make("looking for cancelled tasks", pollMillis), all)],
        claimed: (id) => {
          if (early.delete(id)) Queue.offerUnsafe(cancelled, id)
        }
      })
    })
  )
}
