/**
 * What is wrong beside the loops themselves, a line each: rows that had to be set aside, types that nobody serves.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { monotonicMillis } from "./Attempt.ts"

export interface Problem {
  readonly message: string
  /** In milliseconds of the monotonic clock. */
  readonly since: number
}

/** Health tells them. None of them alone makes a worker unready. */
export class Problems extends Context.Service<Problems, {
  /** A second report under the same key replaces the message and keeps `since`. */
  readonly report: (key: string, message: string) => void
  readonly resolve: (key: string) => void
  readonly all: () => ReadonlyArray<Problem>
}>()("spindle/Problems") {
  static readonly layer: Layer.Layer<Problems> = Layer.effect(
    Problems,
    Effect.map(Clock.Clock, (clock) => {
      const problems = new Map<string, Problem>()
      return Problems.of({
        report: (key, message) => {
          problems.set(key, { message, since: problems.get(key)?.since ?? monotonicMillis(clock) })
        },
        resolve: (key) => {
          problems.delete(key)
        },
        all: () => [...problems.values()]
      })
    })
  )
}
