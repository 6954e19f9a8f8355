/**
 * Takes tasks from workers that are gone, and tidies what nobody else does.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { HandlerRegistry } from "../HandlerRegistry.ts"
import type { StorageError } from "../storage/StorageError.ts"
import { TaskStore } from "../storage/TaskStore.ts"
import { monotonicMillis } from "./Attempt.ts"
import { Connection } from "./Connection.ts"
import * as Loop from "./Loop.ts"
import { Pulses } from "./Pulse.ts"
import { Settings } from "./Settings.ts"

/**
 * @category services
 * @since 0.1.0
 */
export class Sweeper extends Context.Service<Sweeper, {
  readonly run: ReadonlyArray<Effect.Effect<never>>
}>()("spindle/Sweeper") {
  static readonly layer: Layer.Layer<Sweeper, never, TaskStore | Connection | HandlerRegistry | Pulses | Settings> =
    Layer
      .effect(
        Sweeper,
        Effect.gen(function*() {
          const store = yield* TaskStore
          const { report } = yield* Connection
          const { leaseMillis, pollMillis, sweepMillis, unknownTypes } = yield* Settings
          const { types } = yield* HandlerRegistry
          const clock = yield* Clock.Clock
          const pulses = yield* Pulses
          let unwell = false
          let heldOffUntil = 0

          // After an outage every lease looks expired though the workers live: they get the time to renew first. So nothing is
          // swept for a while after a failure or a long silence, and a statement that was held up on its way does nothing. The
          // statement itself holds off after a restart of the server.
          const sweep: Effect.Effect<void, StorageError> = Effect.gen(function*() {
            const startedAt = monotonicMillis(clock)
            const asked = yield* store.now
            const answeredAt = monotonicMillis(clock)
            if (unwell || answeredAt - startedAt > leaseMillis / 2) heldOffUntil = answeredAt + leaseMillis / 2
            unwell = false
            if (answeredAt < heldOffUntil) return
            const swept = yield* store.sweep(leaseMillis, asked)
            unwell = monotonicMillis(clock) - answeredAt > leaseMillis / 2
            for (const { attempts, id, status, type, worker } of swept) {
              yield* Effect.logWarning("a task was taken from a worker that stopped renewing its lease").pipe(
                Effect.annotateLogs({ taskId: String(id), taskType: type, attempt: attempts, status, worker })
              )
            }
          }).pipe(Effect.tapError(() =>
            Effect.sync(() => {
              unwell = true
            })
          ))

          const failUnknown = Effect.flatMap(
            store.failUnknown(types),
            Effect.forEach(({ id, type }) =>
              Effect.logWarning("a task failed: unknown task type").pipe(
                Effect.annotateLogs({ taskId: String(id), taskType: type })
              ), { discard: true })
          )

          return Sweeper.of({
            run: [
              Loop.every(pulses.make("sweeping", sweepMillis), sweep),
              ...(unknownTypes === "fail"
                ? [Loop.every(pulses.make("failing unknown types", pollMillis), failUnknown)]
                : []),
              ...(report.closesCancelled
                ? []
                : [Loop.every(pulses.make("closing cancelled tasks", pollMillis), Effect.asVoid(store.closeCancelled))])
            ]
          })
        })
      )
}
