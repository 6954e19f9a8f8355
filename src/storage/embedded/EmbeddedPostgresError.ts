/**
 * What goes wrong between an application and its embedded PostgreSQL.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * The embedded PostgreSQL could not be found, prepared, started or joined. The message says why and what to do about it.
 *
 * @category errors
 * @since 0.1.0
 */
export class EmbeddedPostgresError
  extends Schema.TaggedError<EmbeddedPostgresError>("spindle/EmbeddedPostgresError")("EmbeddedPostgresError", {
    message: Schema.String,
    cause: Schema.optionalKey(Schema.Defect())
  })
{}

/**
 * The way out that is left when the embedded server is of no use.
 *
 * @category constants
 * @since 0.1.0
 */
export const wayOut = "Set DATABASE_URL to use a PostgreSQL server of your own."

/**
 * Runs a blocking call of the operating system; `action` completes the sentence "Could not …" if it throws.
 *
 * @category constructors
 * @since 0.1.0
 */
export const attempt = <A>(action: string, evaluate: () => A): Effect.Effect<A, EmbeddedPostgresError> =>
  Effect.try({
    try: evaluate,
    catch: (cause) =>
      new EmbeddedPostgresError({
        message: `Could not ${action}: ${cause instanceof Error ? cause.message : String(cause)}. ${wayOut}`,
        cause
      })
  })

/**
 * The operating system's code of an error made by {@link attempt}, such as `EEXIST`.
 *
 * @category accessors
 * @since 0.1.0
 */
export const codeOf = (error: EmbeddedPostgresError): unknown =>
  error.cause instanceof Error && "code" in error.cause ? error.cause.code : undefined
