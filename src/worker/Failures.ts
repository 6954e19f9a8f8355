/**
 * What went wrong, as it is stored in the column `error`.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Entry } from "../HandlerRegistry.ts"
import * as Thrown from "../internal/Thrown.ts"
import type { StorageError } from "../storage/StorageError.ts"
import type * as TaskEvent from "../TaskEvent.ts"
import * as Storable from "./Storable.ts"

const maxMessage = 16 * 1024
const maxStack = 16 * 1024

/**
 * An error of the task's own schema, or one that is not in it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const failure = (entry: Entry, error: unknown): Effect.Effect<TaskEvent.Failure> =>
  Effect.suspend(() => entry.encodeError(error)).pipe(
    Effect.map((json) => {
      const text = JSON.stringify(json)
      return text.length <= Storable.maxBytes ? { data: JSON.parse(text) } : undefined
    }),
    Effect.matchCause({
      onFailure: () => describe("failure", error),
      onSuccess: (data) => ({ ...describe("failure", error), ...data })
    })
  )

/**
 * A bug in the handler.
 *
 * @category constructors
 * @since 0.1.0
 */
export const defect = (defect: unknown): TaskEvent.Failure => {
  const stack = Thrown.stackOf(defect)
  return { ...describe("defect", defect), ...(stack === undefined ? {} : { stack: stack.slice(0, maxStack) }) }
}

/**
 * The handler gave up with `Task.Discard`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const discarded = (cause: unknown): TaskEvent.Failure => describe("discarded", cause)

/**
 * The handler failed with `Task.Retry`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const retry = (cause: unknown): TaskEvent.Failure =>
  cause === undefined
    ? { kind: "failure", tag: "Retry", message: "The handler asked to be run again" }
    : describe("failure", cause)

/**
 * @category constructors
 * @since 0.1.0
 */
export const timeout = (millis: number): TaskEvent.Failure => ({
  kind: "timeout",
  tag: "Timeout",
  message: `The attempt took longer than its timeout of ${millis} ms`
})

/**
 * @category constructors
 * @since 0.1.0
 */
export const interrupted: TaskEvent.Failure = {
  kind: "interrupted",
  tag: "Interrupted",
  message: "The handler interrupted itself"
}

/**
 * The payload does not fit the schema, or cannot be read as it is stored.
 *
 * @category constructors
 * @since 0.1.0
 */
export const rejected = (error: { readonly message: string }): TaskEvent.Failure => ({
  kind: "rejected",
  tag: "InvalidPayload",
  message: Thrown.messageOf(error).slice(0, maxMessage)
})

/**
 * The payload is larger than a worker takes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const tooLarge = (what: "payload" | "result", limit: number): TaskEvent.Failure => ({
  kind: what === "payload" ? "rejected" : "defect",
  tag: what === "payload" ? "PayloadTooLarge" : "ResultTooLarge",
  message: `The ${what} is larger than ${limit} bytes of JSON`
})

/**
 * The payload cannot be read.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unreadable = (error: StorageError): TaskEvent.Failure => ({
  kind: "rejected",
  tag: "UnreadablePayload",
  message: error.message.slice(0, maxMessage)
})

const describe = (kind: TaskEvent.Failure["kind"], error: unknown): TaskEvent.Failure => ({
  kind,
  tag: Thrown.tagOf(error).slice(0, 200),
  message: Thrown.messageOf(error).slice(0, maxMessage)
})
