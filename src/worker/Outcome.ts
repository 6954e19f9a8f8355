/**
 * How an attempt ended, and what of it is written.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import type * as Schema from "effect/Schema"
import type { OutcomeEntry } from "../storage/Write.ts"
import type * as TaskEvent from "../TaskEvent.ts"
import type { Attempt } from "./Attempt.ts"
import * as Storable from "./Storable.ts"

/**
 * - `Completed`: the handler returned
 * - `Failed`: and the task is not tried again
 * - `Retry`: failed, and tried again after `delay`; the attempt is charged
 * - `Snoozed`: the handler asked to be run again after `delay`; not charged
 * - `Cancelled`: interrupted because the row said `cancelled`
 * - `Released`: put back as it was; not charged
 *
 * @category models
 * @since 0.1.0
 */
export type Outcome = Data.TaggedEnum<{
  Completed: { readonly result: Schema.Json; readonly stored: Storable.Storable }
  Failed: { readonly error: TaskEvent.Failure }
  Retry: { readonly error: TaskEvent.Failure; readonly delay: Duration.Duration }
  Snoozed: { readonly delay: Duration.Duration }
  Cancelled: {}
  Released: { readonly reason: "shutdown" | "lease_expired" | "snooze" }
}>

/**
 * @category constructors
 * @since 0.1.0
 */
export const Outcome = Data.taggedEnum<Outcome>()

const unwritten = { result: null, error: null, delayMillis: null, refund: false, announce: true } as const

/**
 * What the journal writes. `declaresEvents` is whether readers of this type wait for a `done`.
 *
 * A `Cancelled` is written as if released: the statement keeps `cancelled` where it finds it, and should somebody have
 * queued the task again, it is not charged for what it was not given the time to do.
 *
 * @category constructors
 * @since 0.1.0
 */
export const toEntry = (outcome: Outcome, attempt: Attempt, declaresEvents: boolean): OutcomeEntry => {
  const entry = entryOf(outcome, attempt, declaresEvents)
  return attempt.unwoundMillis === undefined
    ? entry
    : { ...entry, closingData: unwound(attempt.unwoundMillis, entry.closingData) }
}

// Only the event `cancelled` tells it; whoever interrupts for that reason has found the row so.
const unwound = (millis: number, closingData: string) =>
  `{"unwoundMs":${Math.round(millis * 10) / 10}${closingData === "{}" ? "}" : `,${closingData.slice(1)}`}`

const entryOf = (outcome: Outcome, attempt: Attempt, declaresEvents: boolean): OutcomeEntry => {
  const { epoch, id: taskId } = attempt.row
  const closingSeq = attempt.seq + 1
  if (outcome._tag === "Completed") {
    const { sanitized, text } = outcome.stored
    return {
      taskId,
      epoch,
      status: "completed",
      result: text,
      error: null,
      delayMillis: null,
      refund: false,
      closing: "done",
      closingSeq,
      closingData: sanitized ? "{\"sanitized\":true}" : "{}",
      announce: declaresEvents || attempt.seq > 0 || epoch > 1n || sanitized
    }
  }
  const head = { ...unwritten, taskId, epoch, closingSeq }
  switch (outcome._tag) {
    case "Failed":
      return { ...head, status: "failed", closing: "error", ...errorColumns(outcome.error, false) }
    case "Retry":
      return {
        ...head,
        status: "queued",
        delayMillis: Duration.toMillis(outcome.delay),
        closing: "retry",
        ...errorColumns(outcome.error, true)
      }
    case "Snoozed":
      return {
        ...head,
        status: "queued",
        delayMillis: Duration.toMillis(outcome.delay),
        refund: true,
        closing: "released",
        closingData: "{\"reason\":\"snooze\"}"
      }
    case "Cancelled":
    case "Released":
      return {
        ...head,
        status: "queued",
        refund: true,
        closing: "released",
        closingData: JSON.stringify({ reason: outcome._tag === "Released" ? outcome.reason : "shutdown" })
      }
  }
}

const errorColumns = (error: TaskEvent.Failure, willRetry: boolean) => {
  const { sanitized, text } = Storable.make(error as unknown as Schema.Json)
  return {
    error: text,
    closingData: `${text.slice(0, -1)},"willRetry":${willRetry}${sanitized ? ",\"sanitized\":true" : ""}}`
  }
}
