/**
 * What the actors of a worker measure, once per statement and never per task.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PerfHooks from "node:perf_hooks"
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
  // Node's own timer: to wake JavaScript 50 times a second would cost an idle worker more than all else it does.
  private readonly delays = PerfHooks.monitorEventLoopDelay({ resolution: sampleMillis })
  /** The longest of each window, and when it was found. */
  private readonly latest: Array<{ at: number; millis: number }> = []

  constructor(clock: Clock.Clock) {
    this.clock = clock
  }

  /** Measures, for ever. */
  get run(): Effect.Effect<never> {
    const late = (millis: number) =>
      Effect.suspend(() => {
        const from = monotonicMillis(this.clock)
        return Effect.map(Effect.sleep(millis), () => this.found(monotonicMillis(this.clock) - from - millis))
      })
    const window = Effect.suspend(() => {
      this.read()
      this.delays.reset()
      this.latest.push({ at: monotonicMillis(this.clock), millis: 0 })
      if (this.latest.length > windows) this.latest.shift()
      // A reset loses what goes on just then, and all until the sample after it.
      return Effect.andThen(late(sampleMillis), late(windowMillis - sampleMillis))
    })
    return Effect.acquireUseRelease(
      Effect.sync(() => this.delays.enable()),
      () => Effect.forever(window, { disableYield: true }),
      () => Effect.sync(() => this.delays.disable())
    )
  }

  private read() {
    this.found(this.delays.max / 1e6 - sampleMillis)
  }

  private found(millis: number) {
    const window = this.latest.at(-1)
    if (window === undefined || millis <= window.millis) return
    window.at = monotonicMillis(this.clock)
    window.millis = millis
  }

  /** The longest within about a minute, and how long ago it was found, which is half a second after its end at most. */
  get longest(): { readonly millis: number; readonly agoMillis: number } {
    this.read()
    let longest = { at: monotonicMillis(this.clock), millis: 0 }
    for (const sample of this.latest) if (sample.millis >= longest.millis) longest = sample
    return { millis: longest.millis, agoMillis: monotonicMillis(this.clock) - longest.at }
  }
}
