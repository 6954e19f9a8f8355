/**
 * Background loops: none dies in silence.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { StorageError } from "../storage/StorageError.ts"

const backoff = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("5 seconds")]).pipe(Schedule.jittered)

/**
 * Repeats a turn while the database can be reached, and tries again with backoff while it cannot. The log tells when
 * that begins and when it is over.
 *
 * @category combinators
 * @since 0.1.0
 */
export const turns = (name: string, turn: Effect.Effect<void, StorageError>): Effect.Effect<never> =>
  Effect.suspend(() => {
    let failing = false
    const attempt = turn.pipe(
      Effect.tapError((error) => {
        const level = failing ? Effect.logDebug : Effect.logWarning
        failing = true
        return level(`${name}: the database does not do what is asked of it`, error.message)
      }),
      Effect.retry(backoff),
      Effect.orDie,
      Effect.tap(() => {
        if (!failing) return Effect.void
        failing = false
        return Effect.logInfo(`${name}: back to work`)
      })
    )
    return Effect.forever(attempt, { disableYield: true })
  })

/**
 * A turn every so often.
 *
 * @category combinators
 * @since 0.1.0
 */
export const every = (
  name: string,
  interval: Duration.Input,
  turn: Effect.Effect<void, StorageError>
): Effect.Effect<never> => turns(name, Effect.andThen(Effect.sleep(interval), turn))

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
