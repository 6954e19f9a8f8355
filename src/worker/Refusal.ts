/**
 * What is written in place of an entry that the database refuses, each less than the one before.
 */
import type { StorageError } from "../storage/StorageError.ts"
import type { OutcomeEntry } from "../storage/Write.ts"
import type { Attempt } from "./Attempt.ts"
import type { Item } from "./Backlog.ts"

// For a task that can be recorded neither as completed nor as failed.
const againMillis = 60_000

/** The next form to try; undefined when there is none left. */
export const instead = (item: Item, error: StorageError): Item | undefined => {
  const given = item.given ?? item
  if (item.event !== undefined) {
    const [event, ...others] = item.others ?? events(item.event, error)
    return event === undefined ? undefined : { ...item, given, event, others }
  }
  const [outcome, ...others] = item.others ?? outcomes(item.outcome, item.attempt, error)
  return outcome === undefined ? undefined : { ...item, given, outcome, others }
}

/** Its JSON as text, which may be what cannot be read; then only that there was something. */
const events = <A extends { readonly data: string }>(event: A, { sqlState }: StorageError): ReadonlyArray<A> => [
  { ...event, data: JSON.stringify({ sanitized: true, json: event.data }) },
  { ...event, data: JSON.stringify({ sanitized: true, refused: sqlState ?? "unknown" }) }
]

/** First less of its closing event, then less of the outcome: to let go of the task is what matters in the end. */
const outcomes = (outcome: OutcomeEntry, { row }: Attempt, error: StorageError): ReadonlyArray<OutcomeEntry> => {
  const plain = outcome.error === null ? [] : [{ ...outcome, closingData: plainly(outcome) }]
  const failed = outcome.status === "queued" && outcome.error === null ? [] : [unstorable(outcome, error)]
  const queued = outcome.status === "queued" || row.attempts >= row.maxAttempts
    ? []
    : [unstorable({ ...outcome, status: "queued", delayMillis: againMillis }, error)]
  return [...plain, silent(outcome), ...[...failed, ...queued].flatMap((other) => [other, silent(other)])]
}

const silent = (outcome: OutcomeEntry): OutcomeEntry => ({ ...outcome, closing: null })

const plainly = ({ error, status }: OutcomeEntry) => {
  const { kind, tag } = JSON.parse(error!)
  return JSON.stringify({
    kind,
    tag,
    message: "The error is in the task's row",
    willRetry: status === "queued",
    sanitized: true
  })
}

const unstorable = (outcome: OutcomeEntry, { message }: StorageError): OutcomeEntry => {
  const error = { kind: "defect", tag: "Unstorable", message: `The outcome could not be stored. ${message}` }
  const willRetry = outcome.status === "queued"
  return {
    ...outcome,
    status: willRetry ? "queued" : "failed",
    result: null,
    error: JSON.stringify(error),
    refund: false,
    closing: willRetry ? "retry" : "error",
    closingData: JSON.stringify({ ...error, willRetry }),
    announce: true
  }
}
