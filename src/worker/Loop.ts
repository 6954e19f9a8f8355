/**
 * Background loops: none dies or stands still in silence.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { StorageError } from "../storage/StorageError.ts"
import type { Pulse } from "./Pulse.ts"

const lastPauseMillis = 5000

const backoff = (lastPause: number) =>
  Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced(lastPause)]).pipe(Schedule.jittered)

/**
 * What a turn ends with that goes on, although its statement was not answered in time.
 *
 * @category models
 * @since 0.1.0
 */
export const unanswered = "unanswered"

/**
 * @category models
 * @since 0.1.0
 */
export type Turn<E = never> = Effect.Effect<void | typeof unanswered, E>

/**
 * Repeats a turn that cannot fail.
 *
 * @category combinators
 * @since 0.1.0
 */
export const forever = (pulse: Pulse, turn: Turn): Effect.Effect<never> =>
  Effect.suspend(() => {
    pulse.begin()
    return Effect.forever(
      Effect.map(turn, (answer) => {
        if (answer !== unanswered) pulse.turned()
        else pulse.failed("no answer in time", true)
      }),
      { disableYield: true }
    )
  }).pipe(
    Effect.tapCauseIf(Cause.hasDies, () =>
      Effect.sync(() => {
        pulse.died = true
      }))
  )

const persistently = (pulse: Pulse, turn: Turn<StorageError>, lastPause = lastPauseMillis): Turn => {
  const { name } = pulse
  let failing = false
  return turn.pipe(
    Effect.tapError((error) => {
      pulse.failed(error.message, error.transient)
      const level = failing ? Effect.logDebug : Effect.logWarning
      failing = true
      return level(`${name}: the database does not do what is asked of it`, error.message)
    }),
    Effect.retry(backoff(lastPause)),
    Effect.orDie,
    Effect.tap(() => {
      if (!failing) return Effect.void
      failing = false
      return Effect.logInfo(`${name}: back to work`)
    })
  )
}

/**
 * Repeats a turn while the database can be reached, and tries again with backoff while it cannot. The log tells when
 * that begins and when it is over.
 *
 * @category combinators
 * @since 0.1.0
 */
export const turns = (pulse: Pulse, turn: Turn<StorageError>): Effect.Effect<never> =>
  forever(pulse, persistently(pulse, turn))

/**
 * The same in every interval of the pulse, which is also the longest pause after a failure: when the database is back, leases
 * are renewed before anybody sweeps them. `pause` can make the next turn come earlier.
 *
 * @category combinators
 * @since 0.1.0
 */
export const every = (
  pulse: Pulse,
  turn: Turn<StorageError>,
  pause = () => pulse.intervalMillis
): Effect.Effect<never> =>
  forever(
    pulse,
    Effect.andThen(
      Effect.suspend(() => Effect.sleep(pause())),
      persistently(pulse, turn, Math.min(pulse.intervalMillis, lastPauseMillis))
    )
  )

/**
 * Runs loops until the scope closes. Should one end by a defect, which is a bug, `died` is told.
 *
 * @category combinators
 * @since 0.1.0
 */
export const fork = (
  name: string,
  loops: ReadonlyArray<Effect.Effect<never>>,
  died: (cause: unknown) => Effect.Effect<void>
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.all(loops, { concurrency: "unbounded" }).pipe(
    Effect.catchCauseIf(Cause.hasDies, (cause) =>
      Effect.andThen(Effect.logError(`${name} died`, cause), died(Cause.squash(cause)))),
    Effect.forkScoped,
    Effect.asVoid
  )
