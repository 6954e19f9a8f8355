/**
 * How a command that did not succeed tells so: one line on standard error, and an exit code.
 *
 * - 1: it failed, or its port is taken
 * - 64: it was called in a wrong way
 * - 69: the database cannot be reached
 * - 78: a variable is malformed, the tables lack what a worker needs, or a module of tasks is not one
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as CliError from "effect/cli/CliError"
import type * as Config from "effect/Config"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type * as SqlError from "effect/sql/SqlError"
import * as Db from "../Db.ts"
import type { ServerError } from "../server/Server.ts"
import type { EmbeddedPostgresError } from "../storage/EmbeddedPostgres.ts"
import type { StorageError } from "../storage/StorageError.ts"
import type { TaskQueueError } from "../TaskQueue.ts"
import type { WorkerError } from "../Worker.ts"

/**
 * A command's own reason not to succeed. The message is empty where the command's answer has said everything.
 *
 * @category errors
 * @since 0.1.0
 */
export class CliFailure extends Schema.TaggedError<CliFailure>("spindle/cli/CliFailure")("CliFailure", {
  message: Schema.String,
  exitCode: Schema.Int
}) {}

/**
 * What is left to say, and the exit code.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  readonly message: string
  readonly exitCode: number
}

/**
 * Reads what a command ended with. Only a bug comes with a stack trace.
 *
 * @category constructors
 * @since 0.1.0
 */
export const report = (cause: Cause.Cause<unknown>): Report => {
  const error = Cause.squash(cause)
  // What was wrong with the call has been printed.
  if (CliError.isCliError(error)) return { message: "", exitCode: 64 }
  return isKnown(error)
    ? (reports[error._tag] as (error: Known) => Report)(error)
    : { message: `This is a bug: ${Cause.pretty(cause)}`, exitCode: 1 }
}

type Known =
  | CliFailure
  | Config.ConfigError
  | EmbeddedPostgresError
  | ServerError
  | SqlError.SqlError
  | StorageError
  | TaskQueueError
  | WorkerError

const isKnown = (error: unknown): error is Known =>
  Predicate.hasProperty(error, "_tag") && Predicate.isString(error._tag) && error._tag in reports

// By their tags, so that reading an error does not load the module that fails with it.
const reports: { readonly [Tag in Known["_tag"]]: (error: Extract<Known, { readonly _tag: Tag }>) => Report } = {
  CliFailure: (failure) => failure,
  ConfigError: ({ cause }) => ({ message: "message" in cause ? cause.message : String(cause), exitCode: 78 }),
  EmbeddedPostgresError: ({ message }) => ({ message, exitCode: 69 }),
  ServerError: ({ message, misconfigured }) => ({ message, exitCode: misconfigured ? 78 : 1 }),
  SqlError: (error) => ({
    message: `The database cannot be used: ${messageOf(error.reason.cause)}`,
    exitCode: Db.isTransient(error) ? 69 : 1
  }),
  StorageError: ({ message, transient }) => ({ message, exitCode: transient ? 69 : 1 }),
  TaskQueueError: ({ message, reason }) => {
    switch (reason._tag) {
      case "InvalidOptions":
      case "InvalidPayload":
        return { message, exitCode: 64 }
      case "Unavailable":
        return { message: unreachable(message) ?? message, exitCode: 69 }
      default:
        return { message, exitCode: 1 }
    }
  },
  WorkerError: ({ message, reason }) => {
    switch (reason._tag) {
      case "InvalidOptions":
      case "Contract":
        return { message, exitCode: 78 }
      case "Unavailable":
        return { message, exitCode: 69 }
      default:
        return { message, exitCode: 1 }
    }
  }
}

// Nobody is there, which is seldom a matter of a moment.
const unreachable = (message: string) => {
  const said = /(?:connect|getaddrinfo) (?:ECONNREFUSED|ENOENT|ENOTFOUND|EHOSTUNREACH|ENETUNREACH|EAI_AGAIN).*$/.exec(
    message
  )
  return said === null
    ? undefined
    : `Nothing answers where the database should be (${said[0]}): is the address right, and does the server run?`
}

const messageOf = (cause: unknown) => cause instanceof Error ? cause.message : String(cause)
