/**
 * What makes a worker look: notifications, where they are delivered.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Listener from "../storage/Listener.ts"
import * as Names from "../storage/Names.ts"
import { Connection } from "./Connection.ts"
import { Settings } from "./Settings.ts"

/**
 * @category services
 * @since 0.1.0
 */
export class WakeUps extends Context.Service<WakeUps, {
  /** Open since something may have become claimable. */
  readonly queued: Latch.Latch
  /** Ids that were said to be cancelled; undefined asks to look at all. */
  readonly cancelled: Queue.Queue<bigint | undefined>
  /** Takes notifications in, for ever. */
  readonly run: Effect.Effect<never>
}>()("spindle/WakeUps") {
  static readonly layer: Layer.Layer<WakeUps, never, Connection | Settings> = Layer.effect(
    WakeUps,
    Effect.gen(function*() {
      const { config, listening } = yield* Connection
      const { schema } = yield* Settings
      const queued = Latch.makeUnsafe()
      const cancelled = yield* Queue.sliding<bigint | undefined>(10_000)
      const cancelledChannel = Names.channel(schema, "task_cancelled")
      if (!listening) return WakeUps.of({ queued, cancelled, run: Effect.never })
      const signals = yield* Listener.make(config, [Names.channel(schema, "task_queued"), cancelledChannel])
      const take = (signal: Listener.Signal) => {
        if (signal._tag === "Subscribed") {
          queued.openUnsafe()
          Queue.offerUnsafe(cancelled, undefined)
        } else if (signal.channel !== cancelledChannel) queued.openUnsafe()
        else if (/^\d{1,19}$/.test(signal.payload)) Queue.offerUnsafe(cancelled, BigInt(signal.payload))
      }
      return WakeUps.of({
        queued,
        cancelled,
        run: Effect.forever(Effect.map(Queue.take(signals), take), { disableYield: true })
      })
    })
  )
}
