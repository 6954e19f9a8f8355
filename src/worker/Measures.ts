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
  /** From the begin of a transaction that cancels to the look that finds it, as the database's clock has it. */
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

// A stall is told too short by no more than this.
const sampleMillis = 20
const windowMillis = 500
const windows = 120

/**
 * How late timers are: so long the event loop was held by something that computes without a yield.
 *
 * @category models
 * @since 0.1.0
 */
export class Lag {
  private readonly clock: Clock.Clock
  /** The longest of each window, and when it ended. */
  private readonly latest: Array<{ readonly since: number; at: number; millis: number }> = []

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
          this.record(at, Math.max(0, at - from - sampleMillis))
        })
      }),
      { disableYield: true }
    )
  }

  private record(at: number, millis: number) {
    const window = this.latest.at(-1)
    if (window === undefined || at - window.since >= windowMillis) {
      this.latest.push({ since: at, at, millis })
      if (this.latest.length > windows) this.latest.shift()
    } else if (millis >= window.millis) {
      window.at = at
      window.millis = millis
    }
  }

  /** The longest within about a minute, and how long ago it ended. */
  get longest(): { readonly millis: number; readonly agoMillis: number } {
    let longest = { at: monotonicMillis(this.clock), millis: 0 }
    for (const sample of this.latest) if (sample.millis >= longest.millis) longest = sample
    return { millis: longest.millis, agoMillis: monotonicMillis(this.clock) - longest.at }
  }
}
