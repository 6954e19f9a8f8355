import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import * as Measures from "../../src/worker/Measures.ts"

const hold = (millis: number) =>
  Effect.sync(() => {
    const until = performance.now() + millis
    while (performance.now() < until);
  })

describe("the lag of the event loop", () => {
  for (const after of [0, 10, 150, 450]) {
    it.live(`has a stall that begins ${after} ms after the measuring`, () =>
      Effect.gen(function*() {
        const lag = new Measures.Lag(yield* Clock.Clock)
        yield* Effect.forkScoped(lag.run, { startImmediately: true })
        yield* Effect.sleep(after)
        yield* hold(400)
        yield* Effect.repeat(Effect.sleep("10 millis"), { until: () => lag.longest.millis > 0 })
        yield* Effect.sleep("100 millis")
        assert.isAtLeast(lag.longest.millis, 375)
        assert.isAtLeast(lag.longest.agoMillis, 50)
      }))
  }
})
