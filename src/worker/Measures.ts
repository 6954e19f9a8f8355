/**
 * What the actors of a worker measure, once per statement and never per task.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Histogram from "../internal/Histogram.ts"
import { monotonicMillis } from "./Attempt.ts"

/**
 * @category services
 * @since 0.1.0
 */
export class Measures extends Context.Service<Measures, {
  readonly claimSeconds: Histogram.Histogram
  readonly claimSizes: Histogram.Histogram
  readonly writeSeconds: Histogram.Histogram
  readonly writeSizes: Histogram.Histogram
  /** From the commit of a cancel to the interruption of its handler, as the database's clock has it. */
  readonly cancelSeconds: Histogram.Histogram
  eventsWritten: number
  writesFailed: number
  heartbeatsMissed: number
  leasesLost: number
  readonly lag: Lag
}>()("spindle/Measures") {
  static readonly layer: Layer.Layer<Measures> = Layer.effect(
    Measures,
    Effect.map(Clock.Clock, (clock) =>
      Measures.of({
        claimSeconds: new Histogram.Histogram(Histogram.seconds),
        claimSizes: new Histogram.Histogram(Histogram.sizes),
        writeSeconds: new Histogram.Histogram(Histogram.seconds),
        writeSizes: new Histogram.Histogram(Histogram.sizes),
        cancelSeconds: new Histogram.Histogram(Histogram.seconds),
        eventsWritten: 0,
        writesFailed: 0,
        heartbeatsMissed: 0,
        leasesLost: 0,
        lag: new Lag(clock)
      }))
  )
}

const sampleMillis = 500
const samples = 120

/**
 * How late timers are: so long the event loop was held by something that computes without a yield.
 *
 * @category models
 * @since 0.1.0
 */
export class Lag {
  private readonly clock: Clock.Clock
  private readonly latest: Array<{ readonly at: number; readonly millis: number }> = []

  constructor(clock: Clock.Clock) {
    this.clock = clock
  }

  /** Measures, for ever. */
  get run(): Effect.Effect<never> {
    return Effect.forever(
      Effect.suspend(() => {
        const from = monotonicMillis(this.clock)
        return Effect.map(Effect.sleep(sampleMillis), () => {
          const at = monotonicMillis(this.clock)
          this.latest.push({ at, millis: Math.max(0, at - from - sampleMillis) })
          if (this.latest.length > samples) this.latest.shift()
        })
      }),
      { disableYield: true }
    )
  }

  /** The longest within about a minute, and how long ago it ended. */
  get longest(): { readonly millis: number; readonly agoMillis: number } {
    let longest = { at: monotonicMillis(this.clock), millis: 0 }
    for (const sample of this.latest) if (sample.millis >= longest.millis) longest = sample
    return { millis: longest.millis, agoMillis: monotonicMillis(this.clock) - longest.at }
  }
}
