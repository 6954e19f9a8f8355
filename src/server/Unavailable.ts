/**
 * What an API call says when the database does not give an answer.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Api from "../Api.ts"
import * as Db from "../Db.ts"
import type { StorageError } from "../storage/StorageError.ts"
import type { TaskQueueError } from "../TaskQueue.ts"

/**
 * @category constructors
 * @since 0.1.0
 */
export const fromStorage = ({ message, sqlState, transient }: StorageError): Api.Unavailable =>
  new Api.Unavailable({
    detail: sqlState === "57014"
      ? "This takes longer than a page may take: narrow the filter, by a status, a type or a queue"
      : sqlState === "42P01" || sqlState === "3F000"
      ? `The database has no tables for tasks yet: start a worker once, or run \`spindle migrate\`. ${message}`
      : transient
      ? `The database is away or busy, the same call can succeed later. ${message}`
      : `The database refuses. ${message}`
  })

/**
 * For what a queue can only fail with because of the database.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromQueue = ({ message }: TaskQueueError): Api.Unavailable => new Api.Unavailable({ detail: message })

/**
 * Waits for a change no longer than a page waits. Who has locked the task meanwhile is not waited for.
 *
 * @category combinators
 * @since 0.1.0
 */
export const patiently = <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A, E | Api.Unavailable> =>
  Effect.flatMap(
    Db.patiently(self, "8 seconds"),
    Option.match({
      onNone: () =>
        Effect.fail(
          new Api.Unavailable({
            detail:
              "No answer came within 8 seconds: the database is away, or another transaction has locked the task. Look whether it was changed, and try again"
          })
        ),
      onSome: Effect.succeed
    })
  )
