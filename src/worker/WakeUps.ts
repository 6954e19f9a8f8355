/**
 * What makes a worker look: notifications, where they are delivered.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Listener from "../storage/Listener.ts"
import * as Names from "../storage/Names.ts"
import { monotonicMillis } from "./Attempt.ts"
import { Connection } from "./Connection.ts"
import * as Loop from "./Loop.ts"
import { Pulses } from "./Pulse.ts"
import { Settings } from "./Settings.ts"

const mostNamed = 100

/**
 * @category services
 * @since 0.1.0
 */
export class WakeUps extends Context.Service<WakeUps, {
  /** Open since something may have become claimable. */
  readonly queued: Latch.Latch
  /** What was said to have something queued since this was last asked; `all` when more may have been. */
  readonly named: () => { readonly all: boolean; readonly queues: ReadonlySet<string> }
  /** Ids that were said to be cancelled; undefined asks to look at all. */
  readonly cancelled: Queue.Queue<bigint | undefined>
  /** Since when notifications do not arrive, in milliseconds of the monotonic clock; undefined while they do. */
  readonly lostSince: () => number | undefined
  /** Takes notifications in, for ever. */
  readonly run: Effect.Effect<never>
}>()("spindle/WakeUps") {
  static readonly layer: Layer.Layer<WakeUps, never, Connection | Pulses | Settings> = Layer.effect(
    WakeUps,
    Effect.gen(function*() {
      const { config, listening } = yield* Connection
      const { schema } = yield* Settings
      const clock = yield* Clock.Clock
      const now = () => monotonicMillis(clock)
      const queued = Latch.makeUnsafe()
      const cancelled = yield* Queue.sliding<bigint | undefined>(10_000)
      const cancelledChannel = Names.channel(schema, "task_cancelled")
      let lostSince: number | undefined = now()
      let queues = new Set<string>()
      let all = false
      const named = () => {
        const said = { all, queues }
        queues = new Set()
        all = false
        return said
      }
      if (!listening) return WakeUps.of({ queued, named, cancelled, lostSince: () => lostSince, run: Effect.never })
      const pulse = (yield* Pulses).make("taking notifications")
      const lost = () => {
        lostSince ??= now()
      }
      const signals = yield* Listener.make(config, [Names.channel(schema, "task_queued"), cancelledChannel], lost, true)
      const take = (signal: Listener.Signal) => {
        if (signal._tag === "Subscribed") {
          lostSince = undefined
          all = true
          queued.openUnsafe()
          Queue.offerUnsafe(cancelled, undefined)
        } else if (signal.channel !== cancelledChannel) {
          if (queues.size < mostNamed) queues.add(signal.payload)
          else all = true
          queued.openUnsafe()
        } else if (/^\d{1,19}$/.test(signal.payload)) Queue.offerUnsafe(cancelled, BigInt(signal.payload))
      }
      return WakeUps.of({
        queued,
        named,
        cancelled,
        lostSince: () => lostSince,
        run: Loop.forever(pulse, Effect.map(pulse.rest(Queue.take(signals)), take))
      })
    })
  )
}
