/**
 * Time for durations: a clock that nobody sets, so that no wait grows by the hour by which the wall clock is put back.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

export const millis: Effect.Effect<number> = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)
